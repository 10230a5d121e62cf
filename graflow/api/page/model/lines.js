// @ts-check
/** The journal of a run, page by page, growing while somebody looks. */

import { call } from '../api.js'

const PAGE = 500

export class Lines {
  constructor(model) {
    this.model = model
    /** @type {any[]} */
    this.items = []
    this.after = 0
    this.isBusy = false
    this.isAll = false
    this.problem = null
    this.text = ''
    this.read()
  }

  /** There is more now. */
  grow() {
    if (this.isAll) this.read()
  }

  async read() {
    if (this.isBusy) return
    this.isBusy = true
    try {
      const { body } = await call(`${this.model.path}/events?after=${this.after}&limit=${PAGE}`)
      this.items = this.items.concat(body.items)
      this.after = this.items.at(-1)?.seq ?? this.after
      this.isAll = body.items.length < PAGE
      this.problem = null
    } catch (error) {
      this.problem = error
    }
    this.isBusy = false
    this.model.store.set()
  }

  /** @param {string} text */
  filter(text) {
    this.text = text
    this.model.store.set()
  }

  /** Lines that are looked for, the newest first. */
  get found() {
    const text = this.text.trim().toLowerCase()
    const all = text ? this.items.filter((line) => JSON.stringify(line).toLowerCase().includes(text)) : this.items
    return all.slice().reverse()
  }
}
