// @ts-check
/** One group on workers, with its members. */

import { at, get } from '../api.js'
import { turn } from '../router.js'
import { isEnd } from '../states.js'
import { MemberPages } from './pages.js'

const AGAIN = 1000

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    this.model = this // what pages of members ask for
    this.id = ''
    this.shown = null
    /** @type {MemberPages | null} */
    this.members = null
    this.member = null
    this.timer = 0
    this.isClosed = false
  }

  get query() { return this.store.state.route.query }

  get path() { return at`groups/${this.id}` }

  get size() { return this.shown?.size ?? 0 }

  get ticks() { return Boolean(this.shown && !isEnd(this.shown.status)) }

  title() { return { text: `${this.shown?.name ?? 'Group'} · ${this.id.slice(0, 8)}`, status: this.shown?.status ?? '' } }

  /** @param {import('../router.js').Route} route */
  async open(route) {
    this.id = route.id
    await this.#read()
    if (this.isClosed || !this.shown) return
    this.members = new MemberPages(this)
    this.move(route)
    this.#later()
  }

  close() {
    this.isClosed = true
    clearTimeout(this.timer)
    this.members?.close()
  }

  async #read() {
    try {
      this.shown = await get(this.path)
      this.store.set({ problem: null })
    } catch (error) {
      if (!this.shown) this.fail(error)
    }
  }

  #later() {
    if (this.isClosed || !this.ticks) return
    this.timer = setTimeout(async () => {
      const before = JSON.stringify(this.shown.counts)
      if (!document.hidden) await this.#read()
      if (JSON.stringify(this.shown.counts) !== before) this.members?.stale((this.shown.strip ?? [0]).map((_, i) => i))
      if (!document.hidden && this.member && !isEnd(this.member.status)) await this.#readMember()
      this.#later()
    }, AGAIN)
  }

  /** @param {import('../router.js').Route} route */
  async move({ query }) {
    this.members?.turned()
    if (query.index === undefined) this.member = null
    else await this.#readMember()
    this.store.set()
  }

  /** The member that the address names. */
  async #readMember() {
    const { index } = this.query
    const found = await get(at`groups/${this.id}/members/${index}`).catch((error) => ({ error: error.message }))
    if (this.query.index !== index) return
    this.member = found
    this.store.set()
  }

  /** @param {number} index */
  openMember(index) {
    turn({ index })
  }
}
