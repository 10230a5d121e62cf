// @ts-check
/** What a step or member said: read page by page, a row for each line of text, growing while somebody looks. */

import { get } from '../api.js'
import { href, turn } from '../router.js'

const MOST = 100_000 // rows that are kept

export const LEVELS = ['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL']

export class Log {
  /** @param {import('./step.js').Step} step */
  constructor(step) {
    this.step = step
    this.key = ''
    this.isFollowed = false // whether the end is kept in sight
    this.#clear()
  }

  #clear() {
    /** @type {{number: number, at: string, level: string, text: string, index: number | null, isFirst: boolean}[]} */
    this.rows = []
    this.after = ''
    this.isAll = false
    this.problem = null
    this.asked = (this.asked ?? 0) + 1
    this.isBusy = false
    this.wanted = Number(this.step.query.line) || 0 // the row up to which it is read at once
  }

  get filter() {
    const { level, find } = this.step.query
    return { level: LEVELS.includes(level) ? level : '', search: find }
  }

  /** The address says another filter. */
  turned() {
    const key = JSON.stringify(this.filter)
    if (key === this.key) return
    this.key = key
    this.#clear()
    this.read()
  }

  /** Where lines are that are like this. @param {Record<string, string | number>} more */
  path(more) {
    const { name, index, visit, model } = this.step
    return href(`${model.path}/logs`, { step: name, index, visit, ...this.filter, ...more })
  }

  /** There may be more now. */
  grow() {
    if (this.isAll) this.read()
  }

  /** This row is in sight. @param {number} row */
  want(row) {
    if (!this.isAll && row >= this.rows.length - 1) this.read()
  }

  get isFull() { return this.rows.length >= MOST }

  async read() {
    if (this.isBusy || this.isFull) return
    const { asked, step } = this
    this.isBusy = true
    try {
      const found = await get(this.path({ after: this.after }))
      if (asked !== this.asked || step.isClosed) return
      this.#take(found)
      this.problem = null
    } catch (error) {
      if (asked === this.asked) this.problem = error
    }
    if (asked !== this.asked) return
    this.isBusy = false
    step.model.store.set()
    if (!this.problem && !this.isAll && (this.isFollowed || this.rows.length < Math.max(1, this.wanted))) this.read()
  }

  #take({ lines, cursor, next_cursor: next }) {
    for (const { at, level, text, index } of lines) {
      for (const [i, row] of text.replace(/\n$/, '').split('\n').entries()) this.rows.push({ number: this.rows.length + 1, at, level, text: row, index, isFirst: !i })
    }
    this.after = cursor
    this.isAll = !next
  }

  /** @param {boolean} isFollowed */
  follow(isFollowed) {
    this.isFollowed = isFollowed
    if (isFollowed) this.read()
    this.step.model.store.set()
  }

  /** @param {Record<string, string | number | null>} change */
  turn(change) {
    turn(change, { replace: true })
  }
}
