// @ts-check
/** One registered flow: what it takes, and how its last runs went. */

import { at, get } from '../api.js'
import { href } from '../router.js'

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    this.about = null
    /** @type {any[]} */
    this.rows = []
    this.stats = null
    this.chosen = new Set()
  }

  title() { return { text: `${this.store.state.route.id} · graflow`, status: '' } }

  /** @param {import('../router.js').Route} route */
  async open({ id }) {
    try {
      const [about, runs, stats] = await Promise.all([
        get(at`flows/${id}`).catch((error) => { if (error.status !== 404) throw error; return null }),
        get(href('runs', { flow: id, limit: 10 })),
        get(href('stats', { flow: id, period: '30d' })).catch(() => null),
      ])
      Object.assign(this, { about, rows: runs.items, stats })
      this.store.set()
    } catch (error) {
      this.fail(error)
    }
  }
}
