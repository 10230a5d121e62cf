// @ts-check
/** What workers run of an open group, looked at once a second: of that the stream tells nothing. */

import { get } from '../api.js'
import { href } from '../router.js'
import { isEnd } from '../states.js'

const LOOK = 1000

export class Running {
  /** @param {import('./step.js').Step} step */
  constructor(step) {
    this.step = step
    /** @type {number[]} members that run, by bucket of the strip */
    this.buckets = []
    this.watch = setInterval(() => this.#look(), LOOK)
  }

  close() {
    clearInterval(this.watch)
  }

  async #look() {
    const { step } = this
    const group = step.model.steps.get(step.name)
    if (document.hidden || step.isAsking || !group) return
    if (step.index === undefined) await this.#lookAtAll(step.row)
    else if (group.status === 'running' && !isEnd(step.detail?.status)) await step.load()
  }

  async #lookAtAll(row) {
    const { step, buckets: before } = this
    const isOpen = row?.status === 'running'
    const found = isOpen ? await get(href(`${step.path}/strip`, { buckets: row.strip?.length })).catch(() => null) : { buckets: [] }
    if (!found || step.isClosed) return
    this.buckets = found.buckets.map((bucket) => bucket.r ?? 0)
    const changed = [...this.buckets.keys()].filter((i) => this.buckets[i] !== (before[i] ?? 0))
    if (!changed.length) return
    step.members?.stale(changed)
    step.model.store.set()
  }

  /** Counts and strip of the group with them; the stream says that they wait. @param {any} shown */
  over({ counts, strip }) {
    if (!strip || !counts) return null
    let moved = 0
    const buckets = strip.map((bucket, i) => {
      const n = Math.min(this.buckets[i] ?? 0, bucket.p ?? 0)
      moved += n
      return n ? { ...bucket, p: bucket.p - n, r: (bucket.r ?? 0) + n } : bucket
    })
    return moved ? { counts: { ...counts, pending: counts.pending - moved, running: (counts.running ?? 0) + moved }, strip: buckets } : null
  }
}
