// @ts-check
/** When steps and members of a run ran: rows of bars or, where there are many, of busy areas; times are seconds since the start of the run. */

import { get } from '../api.js'
import { href, turn } from '../router.js'
import { isEnd } from '../states.js'
import { millis, now } from '../time.js'
import { rowsOf } from './answers.js'

const AGAIN = 1000 // milliseconds between two readings
const SETTLED = 250 // milliseconds without a move, before the address says what is in sight
const MOST_LANES = 8
const FOLDED = 0.2 // of the whole, from which on an idle stretch is folded
const FOLD = 0.04 // of the rest: the room of a fold
const NARROWEST = 0.001

/** @typedef {{points: [number, number][], failed: number[], peak: number}} Area how many ran from each point on */
/** @typedef {{name: string, bars: any[], lanes: number, area: Area | null}} Row */

/** Time as it is shown: idle stretches take little room. */
export class Axis {
  /** @param {number} end @param {[number, number][]} gaps in which nothing ran, in order */
  constructor(end, gaps) {
    const long = gaps.filter(([from, to]) => to - from > FOLDED * end)
    const rest = long.reduce((left, [from, to]) => left - (to - from), end)
    this.folds = rest > 0 ? long : []
    this.room = FOLD * rest
  }

  /** @param {number} time */
  shown(time) {
    return this.folds.reduce((at, [from, to]) => (time > from ? at - (Math.min(time, to) - from) * (1 - this.room / (to - from)) : at), time)
  }

  /** @param {number} at what `shown` gave */
  real(at) {
    let time = at
    for (const [from, to] of this.folds) {
      if (time <= from) break
      if (time < from + this.room) return from + ((time - from) * (to - from)) / this.room
      time += to - from - this.room
    }
    return time
  }
}

/** How many members ran at a time. @param {any[]} members @returns {Area} */
const areaOf = (members) => {
  const turns = members.flatMap((bar) => (bar.to === null ? [[bar.from, 1]] : [[bar.from, 1], [bar.to, -1]]))
  turns.sort((one, other) => one[0] - other[0] || one[1] - other[1])
  let n = 0
  const points = /** @type {[number, number][]} */ (turns.map(([time, by]) => [time, (n += by)]))
  return { points, failed: members.filter((bar) => bar.status === 'failed').map((bar) => bar.to ?? bar.from), peak: Math.max(1, ...points.map(([, many]) => many)) }
}

/** Give each bar the first lane that is free. @param {any[]} bars in order of their begin @returns {number} how many lanes there are */
const packed = (bars) => {
  /** @type {number[]} until when each is taken */
  const lanes = []
  for (const bar of bars) {
    const free = lanes.findIndex((until) => until <= bar.from)
    bar.lane = free < 0 ? lanes.length : free
    lanes[bar.lane] = bar.to ?? Infinity
  }
  return Math.max(1, lanes.length)
}

/** @param {any} answer with bars @returns {Row[]} */
const rowsOfBars = ({ by, bars: columns }) => {
  const bars = rowsOf(columns)
  const groups = new Set(bars.filter((bar) => bar.index !== null).map((bar) => bar.step))
  /** @type {Map<string, any[]>} */
  const found = new Map()
  for (const bar of bars) {
    if (by === 'worker' && bar.index === null && groups.has(bar.step)) continue // its members are told
    found.set(bar.row, [...(found.get(bar.row) ?? []), bar])
  }
  const rows = [...found].map(([name, own]) => {
    const members = by === 'step' ? own.filter((bar) => bar.index !== null) : []
    const lanes = packed(own)
    if (members.length) return { name, bars: own.filter((bar) => bar.index === null), lanes: 1, area: areaOf(members) }
    return lanes > MOST_LANES ? { name, bars: [], lanes: 1, area: areaOf(own) } : { name, bars: own, lanes, area: null }
  })
  return by === 'worker' ? rows.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true })) : rows
}

/** @param {any} answer with bins @returns {Row[]} */
const rowsOfBins = ({ from, to, bins, rows }) => {
  const width = (to - from) / bins
  return rows.map(({ row, busy, failed }) => ({
    name: row, bars: [], lanes: 1,
    area: {
      points: [...busy.map((n, i) => [from + i * width, n]), [to, 0]],
      failed: failed.flatMap((n, i) => (n ? [from + (i + 0.5) * width] : [])),
      peak: Math.max(1, ...busy),
    },
  }))
}

/** Stretches in which nothing ran. @param {any} answer @param {number} end @returns {[number, number][]} */
const gapsOf = ({ bars, from, to, bins, rows }, end) => {
  const width = (to - from) / (bins || 1)
  const areas = (rows ?? []).flatMap((row) => row.busy.flatMap((n, i) => (n ? [[from + i * width, from + (i + 1) * width]] : [])))
  const busy = [...areas, ...(bars?.from ?? []).map((begin, i) => [begin, bars.to[i] ?? end])].sort((one, other) => one[0] - other[0])
  /** @type {[number, number][]} */
  const gaps = []
  let at = 0
  for (const [begin, until] of busy) {
    if (begin > at + 1e-6) gaps.push([at, begin])
    at = Math.max(at, until)
  }
  if (end > at + 1e-6) gaps.push([at, end])
  return gaps
}

/** @param {Row} row */
const firstOf = ({ bars, area }) => bars[0]?.from ?? area?.points.find(([, n]) => n > 0)?.[0] ?? 0

const rowsIn = (answer) => {
  const rows = [...(answer.rows ? rowsOfBins(answer) : []), ...(answer.bars ? rowsOfBars(answer) : [])]
  return answer.by === 'step' ? rows.sort((one, other) => firstOf(one) - firstOf(other)) : rows
}

export class Timeline {
  /** @param {any} run its model */
  constructor(run) {
    this.run = run
    /** @type {any} the whole run, as it was read */
    this.whole = null
    /** @type {Row[]} */
    this.rows = []
    /** @type {[number, number][]} */
    this.gaps = []
    this.axis = new Axis(0, [])
    /** @type {{from: number, to: number} | null} what is in sight; null for all of it */
    this.window = null
    this.problem = null
    this.isBusy = false
    this.isStale = true
    this.timer = 0
    this.moving = 0
  }

  get query() { return this.run.store.state.route.query }

  get by() { return this.query.by === 'worker' ? 'worker' : 'step' }

  /** When the run began, milliseconds since the epoch. */
  get start() { return millis(this.whole?.start) ?? now() }

  get isOver() { return isEnd(this.run.run.status) }

  get end() { return this.isOver ? this.whole?.to ?? 0 : Math.max(0, (now() - this.start) / 1000) }

  /** Begin and end of what is in sight, as shown. */
  get sight() {
    const { from, to } = this.window ?? { from: 0, to: Math.max(NARROWEST, this.end) * 1.03 }
    return [this.axis.shown(from), this.axis.shown(to)]
  }

  /** The address has changed. */
  turned() {
    if (this.query.view !== 'timeline') return
    if (!this.moving) {
      const [from, to] = [Number(this.query.from ?? NaN), Number(this.query.to ?? NaN)]
      this.window = from >= 0 && to > from && to <= 1e9 ? { from, to } : null
    }
    if (this.whole && this.whole.by !== this.by) this.whole = null
    if (!this.whole || this.isStale) this.read()
  }

  /** Something happened in the run. */
  changed() {
    this.isStale = true
    if (this.query.view !== 'timeline' || this.timer) return
    this.timer = setTimeout(() => { this.timer = 0; this.turned() }, AGAIN)
  }

  close() {
    clearTimeout(this.timer)
    clearTimeout(this.moving)
  }

  async read() {
    if (this.isBusy) return
    this.isBusy = true
    this.isStale = false
    const by = this.by
    try {
      const whole = await get(href(`${this.run.path}/timeline`, { by }))
      const detail = whole.rows && this.window ? await get(href(`${this.run.path}/timeline`, { by, ...this.window })) : whole
      Object.assign(this, { whole, rows: rowsIn(detail), problem: null })
      this.gaps = gapsOf(whole, this.end)
      this.axis = new Axis(this.end, this.gaps)
    } catch (error) {
      this.problem = error
    }
    this.isBusy = false
    if (by !== this.by || (this.isStale && !this.timer)) this.turned()
    this.run.store.set()
  }

  /** Show from here to there, as shown; all of it when that is less. @param {number} from @param {number} to */
  look(from, to) {
    const all = this.axis.shown(this.end * 1.03)
    const width = Math.max(NARROWEST, to - from)
    const begin = Math.max(0, Math.min(from, all - width))
    this.window = width >= all ? null : { from: this.axis.real(begin), to: this.axis.real(begin + width) }
    clearTimeout(this.moving)
    this.moving = setTimeout(() => this.#settle(), SETTLED)
  }

  #settle() {
    this.moving = 0
    if (this.query.view !== 'timeline') return
    if (this.whole?.rows) this.isStale = true
    turn({ from: this.window?.from.toFixed(4), to: this.window?.to.toFixed(4) }, { replace: true })
  }

  fit() { this.look(0, Infinity) }
}
