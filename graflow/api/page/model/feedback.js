// @ts-check
/** What people are asked, over all runs: the oldest open question first, the newest settled one. */

import { at, get, url } from '../api.js'
import { Live } from '../live.js'
import { href, turn } from '../router.js'

const REFRESH = 500
const PAGE = 200
const PAGES = 5 // of open questions, which are listed from the other end

export const SHOWN = { open: 'Open', mine: 'Mine', settled: 'Settled' }

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    /** @type {any[] | null} */
    this.rows = null
    this.next = null // cursor of older settled questions
    this.isCut = false // there are more open ones than are listed
    /** @type {import('./answering.js').Answering | null} */
    this.chosen = null
    /** @type {any} what draws a question; it comes with the first that is chosen */
    this.part = null
    /** @type {Map<string, import('./answering.js').Answering>} with what was typed */
    this.begun = new Map()
    /** @type {Live | null} */
    this.live = null
    this.timer = 0
    this.asked = 0
    this.isClosed = false
    this.ticks = true
  }

  title() { return { text: 'Feedback · graflow', status: '' } }

  get query() { return this.store.state.route.query }

  get shown() { return this.query.show in SHOWN ? this.query.show : 'open' }

  async open() {
    await this.move()
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

  async move() {
    const key = `${this.shown} ${this.query.cursor ?? ''}`
    if (key !== this.key) {
      this.key = key
      await this.load()
    }
    await this.#choose()
  }

  async load() {
    const mine = ++this.asked
    try {
      const found = await (this.shown === 'settled' ? this.#settled() : this.#open())
      if (mine !== this.asked || this.isClosed) return
      Object.assign(this, found)
      for (const row of found.rows) this.begun.get(row.id)?.update(row)
      this.store.set({ problem: null })
    } catch (error) {
      if (mine === this.asked && !this.rows) this.fail(error)
    }
  }

  async #settled() {
    const found = await get(href('questions', { state: 'settled', cursor: this.query.cursor, limit: 50 }))
    return { rows: found.items, next: found.next_cursor, isCut: false }
  }

  async #open() {
    /** @type {any[]} */
    let rows = []
    let cursor = null
    for (let page = 0; page < PAGES && (cursor || !page); page += 1) {
      const found = await get(href('questions', { of: this.shown === 'mine' ? this.me : '', cursor, limit: PAGE }))
      rows = rows.concat(found.items)
      cursor = found.next_cursor
    }
    return { rows: rows.reverse(), next: null, isCut: Boolean(cursor) }
  }

  /** Who looks, as far as that is known. */
  get me() {
    if (this.store.state.server?.auth !== 'none') return 'me'
    try { return localStorage.getItem('name') || 'me' } catch { return 'me' }
  }

  #soon() {
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.#again() }, REFRESH)
  }

  async #again() {
    await this.load()
    const id = this.query.question
    if (id && !this.rows?.some((row) => row.id === id)) {
      const found = await get(at`questions/${id}`).catch(() => null)
      if (found) this.begun.get(id)?.update(found)
      this.store.set()
    }
  }

  /** The address names a question. */
  async #choose() {
    const id = this.query.question
    if (id && !this.begun.has(id)) {
      const listed = this.rows?.find((row) => row.id === id)
      const found = listed ?? await get(at`questions/${id}`).catch((error) => { this.fail(error); return null })
      if (!found) return
      const [{ Answering }, { questionPart }] = await Promise.all([import('./answering.js'), import('../parts/question.js')])
      this.part = questionPart
      if (this.query.question !== id) return
      const answering = new Answering(found, this.store, () => this.load())
      this.begun.set(id, answering)
      if (listed) answering.look()
    }
    this.chosen = (id && this.begun.get(id)) || null
    this.store.set()
  }

  closeQuestion() {
    turn({ question: null })
  }
}
