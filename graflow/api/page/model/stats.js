// @ts-check
/** What came of many runs. */

import { get } from '../api.js'
import { href } from '../router.js'

export const PERIODS = { '1h': '1 h', '24h': '24 h', '7d': '7 d', '30d': '30 d' }

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    this.stats = null
    this.flows = []
    this.asked = 0
  }

  title() { return { text: 'Stats · graflow', status: '' } }

  get period() {
    const { period } = this.store.state.route.query
    return period in PERIODS ? period : '24h'
  }

  async open() {
    get('flows').then((found) => { this.flows = found.items; this.store.set() }).catch(this.fail)
    await this.move()
  }

  async move() {
    const mine = ++this.asked
    try {
      const stats = await get(href('stats', { period: this.period, flow: this.store.state.route.query.flow }))
      if (mine !== this.asked) return
      this.stats = stats
      this.store.set({ problem: null })
    } catch (error) {
      this.fail(error)
    }
  }
}
