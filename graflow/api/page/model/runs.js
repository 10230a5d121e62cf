// @ts-check
/** The list of runs: one page of it, read again when something happens, without moving what is there. */

import { call, get, url } from '../api.js'
import { Live } from '../live.js'
import { href, turn } from '../router.js'

const PERIODS = { '1h': 3600, '24h': 86400, '7d': 604800, '30d': 2592000 }
const REFRESH = 1000

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    /** @type {any[] | null} */
    this.rows = null
    this.next = null
    this.fresh = 0 // runs that are new since the page was read
    this.flows = [] // names
    this.chosen = new Set()
    this.ticks = true
    /** @type {Live | null} */
    this.live = null
    this.timer = 0
    this.asked = 0
    this.isClosed = false
  }

  title() {
    return { text: 'Runs · graflow', status: '' }
  }

  async open() {
    get('flows').then((found) => { this.flows = found.items; this.store.set() }).catch(this.fail)
    await this.load()
    if (this.isClosed) return
    this.live = new Live(url('events').href, {
      after: null,
      onEvent: () => this.#soon(),
      onState: (link, silent) => this.store.set({ link, silent }),
      onRefused: () => this.load(),
    })
  }

  close() {
    this.isClosed = true
    clearTimeout(this.timer)
    this.live?.close()
  }

  move() {
    this.chosen.clear()
    this.load()
  }

  #path() {
    const { search, status, flow, since, cursor } = this.store.state.route.query
    return href('runs', { search, status, flow, since: since in PERIODS ? since : '', cursor, limit: 50 })
  }

  async load() {
    const mine = ++this.asked
    try {
      const found = await get(this.#path())
      if (mine !== this.asked || this.isClosed) return
      this.rows = found.items
      this.next = found.next_cursor
      this.fresh = 0
      this.store.set({ problem: null })
    } catch (error) {
      if (mine === this.asked) this.fail(error)
    }
  }

  #soon() {
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.refresh() }, REFRESH)
  }

  /** Rows that are shown get what is new of them; rows that are new are counted. */
  async refresh() {
    const mine = this.asked
    const found = await get(this.#path()).catch(() => null)
    if (!found || mine !== this.asked || this.isClosed || !this.rows) return
    const known = new Map(found.items.map((row) => [row.flow_id, row]))
    const shown = new Set(this.rows.map((row) => row.flow_id))
    this.rows = this.rows.map((row) => known.get(row.flow_id) ?? row)
    this.fresh = this.store.state.route.query.cursor ? 0 : found.items.filter((row) => !shown.has(row.flow_id)).length
    if (!this.rows.length && this.fresh) { this.rows = found.items; this.fresh = 0 }
    this.store.set()
  }

  /** @param {Record<string, string | null>} change */
  filter(change) {
    turn({ cursor: null, ...change }, { replace: true })
  }

  /** @param {string} state */
  toggleStatus(state) {
    const chosen = new Set((this.store.state.route.query.status ?? '').split(',').filter(Boolean))
    if (!chosen.delete(state)) chosen.add(state)
    this.filter({ status: [...chosen].join(',') })
  }

  /** @param {string} id */
  toggle(id) {
    if (!this.chosen.delete(id)) this.chosen.add(id)
    this.store.set()
  }

  /** What several runs have in common: the act is asked for each of them. @param {string} action */
  async actOnChosen(action) {
    try {
      const { body } = await call('runs/actions', { method: 'POST', body: { action, ids: [...this.chosen] } })
      const refused = body.items.filter((each) => !each.is_accepted)
      this.chosen.clear()
      this.said = refused.length ? `${refused.length} could not be done: ${refused[0].problem}` : `Asked for: ${action}`
      this.store.set({ said: this.said })
    } catch (error) {
      this.said = /** @type {Error} */ (error).message
      this.store.set({ said: this.said })
    }
    this.refresh()
  }
}
