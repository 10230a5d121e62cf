// @ts-check
/** Workers and queues, looked at again while somebody looks. */

import { get } from '../api.js'

const AGAIN = 3000
const WINDOW = 30 // seconds over which rates are told

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    this.workers = null
    this.queues = null
    /** @type {{at: number, done: Record<string, number>}[]} what was ended when it was looked at before */
    this.looks = []
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

  /** Members a second that have ended since the first look of the window; null before the second one. @param {string} queue */
  rate(queue) {
    const [first, last] = [this.looks[0], this.looks.at(-1)]
    if (!last || first === last || !Number.isFinite(last.done[queue] - first.done[queue])) return null
    return Math.max(0, last.done[queue] - first.done[queue]) / (last.at - first.at)
  }

  async #read() {
    if (document.hidden && this.workers) return
    try {
      const [workers, queues] = await Promise.all([get('workers'), get('queues')])
      Object.assign(this, { workers, queues })
      const at = performance.now() / 1000
      this.looks = [...this.looks.filter((look) => at - look.at <= WINDOW), { at, done: Object.fromEntries(queues.items.map((row) => [row.name, row.done])) }]
      this.store.set({ problem: null })
    } catch (error) {
      if (!this.workers) this.fail(error)
    }
  }
}
