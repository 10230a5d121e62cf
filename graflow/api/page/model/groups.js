// @ts-check
/** Groups on workers that belong to no flow. */

import { get } from '../api.js'
import { href } from '../router.js'

const AGAIN = 2000

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    /** @type {any[] | null} */
    this.rows = null
    this.next = null
    this.reason = null
    this.timer = 0
    this.isClosed = false
    this.ticks = true
  }

  title() { return { text: 'Groups · graflow', status: '' } }

  async open() {
    await this.move()
    if (!this.isClosed) this.timer = setTimeout(() => this.open(), AGAIN)
  }

  close() {
    this.isClosed = true
    clearTimeout(this.timer)
  }

  async move() {
    if (document.hidden && this.rows) return
    const { cursor, status } = this.store.state.route.query
    try {
      const found = await get(href('groups', { cursor, status }))
      Object.assign(this, { rows: found.items, next: found.next_cursor, reason: found.reason })
      this.store.set({ problem: null })
    } catch (error) {
      if (!this.rows) this.fail(error)
    }
  }
}
