// @ts-check
/** Members of a group, read in pages as they come into sight, and again when their bucket of the strip changes. */

import { get } from '../api.js'
import { href, turn } from '../router.js'

const PAGE = 100
const AGAIN = 500 // a page in sight is read again at most twice a second
const KEPT = 40 // pages

export class MemberPages {
  constructor(step) {
    this.step = step
    /** @type {Map<number, any[] | null>} null while it is asked for */
    this.pages = new Map()
    this.total = step.size
    this.key = ''
    this.first = 0
    this.last = 0
    this.timer = 0
    this.version = 0
    this.problem = null
    this.isClosed = false
  }

  close() {
    this.isClosed = true
    clearTimeout(this.timer)
  }

  get filter() {
    const { member_status: status, search, sort } = this.step.query
    return { status, search, sort }
  }

  /** Other filters make another list. */
  turned() {
    const key = JSON.stringify(this.filter)
    if (key === this.key) return
    this.key = key
    this.pages = new Map()
    this.version += 1
    const { filter } = this
    if (!filter.status && !filter.search) this.total = this.step.size
    this.want(0, 40)
  }

  /** @param {number} row */
  at(row) {
    return this.pages.get(Math.floor(row / PAGE))?.[row % PAGE]
  }

  /** These rows are in sight. @param {number} first @param {number} last */
  want(first, last) {
    this.first = first
    this.last = last
    for (let page = Math.floor(first / PAGE); page <= Math.floor(Math.max(first, last) / PAGE); page += 1) {
      if (!this.pages.has(page)) this.#read(page)
    }
  }

  /** @param {number} page */
  async #read(page) {
    const { key } = this
    if (!this.pages.has(page)) this.pages.set(page, null)
    try {
      const found = await get(href(`${this.step.path}/members`, { ...this.filter, visit: this.step.visit, offset: page * PAGE, limit: PAGE }))
      if (key !== this.key || this.isClosed) return
      this.pages.set(page, found.rows)
      this.total = found.total
      this.problem = null
      this.#forget(page)
    } catch (error) {
      this.pages.delete(page)
      this.problem = error
    }
    this.version += 1
    this.step.model.store.set()
  }

  /** Pages far from what is in sight are let go. @param {number} page */
  #forget(page) {
    if (this.pages.size <= KEPT) return
    const far = [...this.pages.keys()].sort((a, b) => Math.abs(b - page) - Math.abs(a - page))
    for (const each of far.slice(0, this.pages.size - KEPT)) this.pages.delete(each)
  }

  /** Buckets of the strip changed: what is in sight is read again, what is not, when it comes into sight. @param {number[]} buckets */
  stale(buckets) {
    const { strip, size } = this.step.shown
    const count = strip?.length || 1
    const isFiltered = this.filter.status || this.filter.search || this.filter.sort
    const touched = (page) => buckets.some((bucket) => {
      const [from, to] = [(bucket * size) / count, ((bucket + 1) * size) / count]
      return from <= (page + 1) * PAGE && to >= page * PAGE
    })
    const [low, high] = [Math.floor(this.first / PAGE), Math.floor(this.last / PAGE)]
    let isSeen = false
    for (const page of this.pages.keys()) {
      if (!isFiltered && !touched(page)) continue
      if (page >= low && page <= high) isSeen = true
      else this.pages.delete(page)
    }
    if (isSeen && !this.timer) this.timer = setTimeout(() => this.#again(), AGAIN)
  }

  #again() {
    this.timer = 0
    if (document.hidden) return
    for (let page = Math.floor(this.first / PAGE); page <= Math.floor(this.last / PAGE); page += 1) this.#read(page)
  }

  /** @param {Record<string, string | null>} change */
  turn(change) {
    turn(change, { replace: true })
  }
}
