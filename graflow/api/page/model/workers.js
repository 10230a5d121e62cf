// @ts-check
/** Workers and queues, looked at again while somebody looks. */

import { get } from '../api.js'

const AGAIN = 3000

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    this.workers = null
    this.queues = null
    this.timer = 0
    this.isClosed = false
  }

  title() { return { text: 'Workers · graflow', status: '' } }

  async open() {
    await this.#read()
    if (!this.isClosed) this.timer = setTimeout(() => this.open(), AGAIN)
  }

  close() {
    this.isClosed = true
    clearTimeout(this.timer)
  }

  async #read() {
    if (document.hidden && this.workers) return
    try {
      const [workers, queues] = await Promise.all([get('workers'), get('queues')])
      Object.assign(this, { workers, queues })
      this.store.set({ problem: null })
    } catch (error) {
      if (!this.workers) this.fail(error)
    }
  }
}
