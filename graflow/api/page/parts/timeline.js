// @ts-check
/** The picture of when steps and members ran: rows by step or by worker over one axis of time. */

import { turn } from '../router.js'
import { look } from '../states.js'
import { clock, offset, span } from '../time.js'
import { Picture, cut, drawIcon } from './canvas.js'
import { PATHS } from './icons.js'

const NAMES = 190 // pixels of the names
const AXIS = 30
const PAD = 22
const ROW = 26
const LANE = 14
const STEP = 1.25
const CLICK = 4 // pixels that a pointer may move and still have clicked
const APART = 92 // pixels between two marks of the axis
const MARKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400]
const OUTSIDE = 'outside of steps'

const nameOf = (row, by) => (by === 'worker' && row.name === '?' ? 'process of the run' : row.name)

export class FlowTimeline extends Picture {
  constructor() {
    super()
    /** @type {import('../model/timeline.js').Timeline | null} */
    this.model = null
    this.top = 0 // pixels that rows are scrolled
    this.tip = document.createElement('div')
    this.tip.className = 'tip'
    this.tip.hidden = true
    this.#listen()
  }

  connectedCallback() {
    super.connectedCallback()
    this.append(this.tip)
  }

  /** @param {{model: any}} about told anew whenever something has changed */
  set about({ model }) {
    this.model = model
    this.ask()
  }

  get wide() { return Math.max(1, this.size.width - NAMES - 2 * PAD) }

  /** @param {number} x of the screen @returns {number} the time there, as shown */
  #at(x) {
    const [from, to] = /** @type {any} */ (this.model).sight
    return from + ((x - NAMES - PAD) / this.wide) * (to - from)
  }

  /** @param {number} time @param {[number, number]} sight */
  #x(time, [from, to]) {
    return NAMES + PAD + ((/** @type {any} */ (this.model).axis.shown(time) - from) / (to - from)) * this.wide
  }

  /** Rows and where they are. */
  #placed() {
    const { model } = this
    if (!model) return []
    const idle = model.gaps.filter(([from, to]) => to - from > 0.002 * model.end)
    const outside = model.by === 'step' && idle.length ? [{ name: OUTSIDE, bars: idle.map(([from, to]) => ({ from, to, status: 'pending' })), lanes: 1, area: null }] : []
    let y = AXIS
    return [...outside, ...model.rows].map((row) => {
      const place = { row, y, tall: row.lanes > 1 ? row.lanes * LANE + 8 : ROW }
      y += place.tall
      return place
    })
  }

  #scroll(dy) {
    const last = this.#placed().at(-1)
    this.top = Math.max(0, Math.min(this.top + dy, (last ? last.y + last.tall : 0) + 60 - this.size.height))
    this.ask()
  }

  fit() {
    this.model?.fit()
    this.ask()
  }

  /** @param {number} way 1 larger, -1 smaller @param {number} [x] the place that stays */
  zoom(way, x = NAMES + this.size.width / 2) {
    if (!this.model) return
    const [from, to] = this.model.sight
    const [still, factor] = [this.#at(x), STEP ** -way]
    this.model.look(still - (still - from) * factor, still + (to - still) * factor)
    this.ask()
  }

  #listen() {
    const { canvas } = this
    let [far, down] = [0, /** @type {PointerEvent | null} */ (null)]
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault()
      if (event.ctrlKey || event.altKey || event.offsetY < AXIS) this.zoom(-Math.sign(event.deltaY || event.deltaX), event.offsetX)
      else this.#scroll(event.deltaMode ? event.deltaY * ROW : event.deltaY)
    }, { passive: false })
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId)
      down = event
      far = 0
    })
    canvas.addEventListener('pointermove', (event) => {
      if (!down || !this.model) { this.#hover(event); return }
      const [dx, dy] = [event.clientX - down.clientX, event.clientY - down.clientY]
      far += Math.abs(dx) + Math.abs(dy)
      down = event
      this.tip.hidden = true
      if (far < CLICK) return
      const [from, to] = this.model.sight
      if (this.model.window && dx) this.model.look(from - (dx / this.wide) * (to - from), to - (dx / this.wide) * (to - from))
      this.#scroll(-dy)
    })
    canvas.addEventListener('pointerup', (event) => {
      const { row, bar } = this.#under(event)
      if (down && far < CLICK && row) this.#choose(row, bar)
      down = null
    })
    canvas.addEventListener('pointercancel', () => { down = null })
    canvas.addEventListener('pointerleave', () => { this.tip.hidden = true })
  }

  #choose(row, bar) {
    const step = bar?.step ?? (this.model?.by === 'step' && row.name !== OUTSIDE ? row.name : null)
    if (step) turn({ step, index: bar?.index ?? null, visit: bar?.visit > 1 ? bar.visit : null, attempt: null, tab: null })
  }

  /** What is under the pointer. @param {{offsetX: number, offsetY: number}} event */
  #under({ offsetX: x, offsetY: y }) {
    const place = y < AXIS ? undefined : this.#placed().find((each) => y + this.top >= each.y && y + this.top < each.y + each.tall)
    const { model } = this
    if (!place || !model) return { row: null, bar: null }
    const lane = place.row.lanes > 1 ? Math.floor((y + this.top - place.y - 4) / LANE) : 0
    const bar = place.row.bars.find((each) => (each.lane ?? 0) === lane && x >= this.#x(each.from, model.sight) - 3 && x <= this.#x(each.to ?? model.end, model.sight) + 3)
    return { row: place.row, bar }
  }

  #hover(event) {
    const { model, tip } = this
    const { row, bar } = this.#under(event)
    tip.hidden = !model?.whole || event.offsetX < NAMES || (!row && event.offsetY >= AXIS)
    if (tip.hidden || !model) return
    const time = Math.max(0, model.axis.real(this.#at(event.offsetX)))
    const fold = model.axis.folds.find(([from, to]) => time > from && time < to)
    const words = [`${clock((model.start + time * 1000) / 1000)} · ${offset(time < 60 ? Math.round(time * 1000) / 1000 : time)}`]
    if (bar?.step) words.push(`${bar.step}${bar.index === null ? '' : ` ${bar.index}`}: ${bar.status}, ${span((bar.to ?? model.end) - bar.from)}`)
    if (bar?.step && bar.queued !== null) words.push(`waited ${span(bar.from - bar.queued)}`)
    if (bar?.worker) words.push(`on ${bar.worker}`)
    if (row?.area) words.push(`${nameOf(row, model.by)}: ${Math.round(10 * (row.area.points.findLast(([at]) => at <= time)?.[1] ?? 0)) / 10} at once`)
    if (fold) words.push(`nothing ran for ${span(fold[1] - fold[0])}`)
    tip.textContent = words.join(' · ')
    tip.style.left = `${Math.max(4, Math.min(event.offsetX + 14, this.size.width - tip.offsetWidth - 8))}px`
    tip.style.top = `${Math.max(4, Math.min(event.offsetY + 16, this.size.height - tip.offsetHeight - 8))}px`
  }

  /** @param {CanvasRenderingContext2D} brush @param {Record<string, string>} colours */
  draw(brush, colours) {
    const { model, size } = this
    if (!model?.whole) return
    const sight = /** @type {[number, number]} */ (model.sight)
    const places = this.#placed().filter(({ y, tall }) => y + tall > this.top + AXIS && y < this.top + size.height)
    brush.textBaseline = 'middle'
    places.forEach(({ row, y, tall }) => {
      brush.fillStyle = model.rows.indexOf(row) % 2 ? colours.back : colours.stripe
      brush.fillRect(0, y - this.top, size.width, tall)
    })
    this.#inTime(brush, () => this.#drawFolds(brush, colours, sight))
    this.#inTime(brush, () => this.#drawMarks(brush, colours, sight, AXIS, size.height))
    this.#inTime(brush, () => places.forEach((place) => (place.row.area ? this.#drawArea(brush, colours, place, sight) : this.#drawBars(brush, colours, place, sight))))
    places.forEach((place) => this.#drawName(brush, colours, place))
    brush.fillStyle = colours.panel
    brush.fillRect(0, 0, size.width, AXIS)
    this.#inTime(brush, () => this.#drawMarks(brush, colours, sight, 0, AXIS))
    brush.fillStyle = colours['line-strong']
    brush.fillRect(0, AXIS - 1, size.width, 1)
    brush.fillRect(NAMES, 0, 1, size.height)
    if (!model.isOver) this.#inTime(brush, () => {
      brush.fillStyle = colours.accent
      brush.fillRect(this.#x(model.end, sight), AXIS - 8, 1.5, size.height)
    })
  }

  /** Draw where times are, and nowhere else. @param {CanvasRenderingContext2D} brush @param {() => void} draw */
  #inTime(brush, draw) {
    brush.save()
    brush.beginPath()
    brush.rect(NAMES, 0, this.size.width, this.size.height)
    brush.clip()
    draw()
    brush.restore()
  }

  #drawFolds(brush, colours, sight) {
    for (const [from, to] of this.model?.axis.folds ?? []) {
      const [left, right] = [this.#x(from, sight), this.#x(to, sight)]
      brush.fillStyle = colours.line
      brush.fillRect(left, AXIS, right - left, this.size.height)
      brush.strokeStyle = colours.soft
      brush.setLineDash([3, 4])
      brush.strokeRect(left, AXIS - 2, right - left, this.size.height)
      brush.setLineDash([])
    }
  }

  /** Lines of the axis, or its words. */
  #drawMarks(brush, colours, sight, top, bottom) {
    const { axis } = /** @type {any} */ (this.model)
    const every = MARKS.find((each) => (each / (sight[1] - sight[0])) * this.wide >= APART) ?? 86400 * Math.ceil(((sight[1] - sight[0]) / 86400 / this.wide) * APART)
    const digits = Math.max(0, Math.ceil(-Math.log10(every)))
    const last = axis.real(this.#at(this.size.width))
    brush.font = `11px ${colours.sans}`
    let n = Math.max(0, Math.floor(axis.real(Math.max(0, sight[0])) / every))
    for (; n * every <= last; n += 1) {
      const fold = axis.folds.find(([from, to]) => n * every > from && n * every < to)
      if (fold) { n = Math.ceil(fold[1] / every) - 1; continue }
      const x = Math.round(this.#x(n * every, sight))
      brush.fillStyle = top ? colours.line : colours.soft
      if (top) brush.fillRect(x, top, 1, bottom)
      else brush.fillText(digits ? `+${(n * every).toFixed(digits)} s` : offset(n * every), x + 3, AXIS / 2)
    }
  }

  #drawBars(brush, colours, { row, y, tall }, sight) {
    const high = row.lanes > 1 ? LANE - 3 : 14
    row.bars.forEach((bar, i) => {
      const [left, right] = [this.#x(bar.from, sight), this.#x(bar.to ?? this.model?.end ?? bar.from, sight)]
      const top = y - this.top + (row.lanes > 1 ? 5 + bar.lane * LANE : (tall - high) / 2)
      const { family, hollow } = look(bar.status)
      brush.fillStyle = colours[family]
      if (bar.queued !== null && bar.queued < bar.from) {
        brush.globalAlpha = 0.35
        const waited = this.#x(bar.queued, sight)
        brush.fillRect(waited, top + high / 2 - 2, left - waited, 4)
      }
      brush.globalAlpha = 1
      brush.beginPath()
      brush.roundRect(left, top, Math.max(2, right - left), high, 2.5)
      if (hollow || row.name === OUTSIDE) brush.fillStyle = colours[`${family}-tint`]
      brush.fill()
      brush.strokeStyle = colours[family]
      if (hollow) brush.stroke()
      if (i < row.bars.length - 1 || row.name === OUTSIDE || this.model?.by === 'worker') return
      brush.fillStyle = colours.soft
      brush.font = `11px ${colours.sans}`
      brush.fillText(span((bar.to ?? this.model?.end) - bar.from), right + 6, y - this.top + tall / 2)
    })
  }

  #drawArea(brush, colours, { row, y, tall }, sight) {
    const { points, failed, peak } = row.area
    for (const bar of row.bars) {
      const [left, right] = [bar.from, bar.to ?? this.model?.end].map((time) => this.#x(time, sight))
      brush.fillStyle = colours[`${look(bar.status).family}-tint`]
      brush.fillRect(left, y - this.top + 3, Math.max(2, right - left), tall - 6)
    }
    const [base, high] = [y - this.top + tall - 3, tall - 6]
    let [before, tallest] = [NaN, 0]
    brush.fillStyle = colours.completed
    points.forEach(([time, n], i) => {
      if (!n) return
      const left = Math.floor(this.#x(time, sight))
      const right = Math.max(left + 1, Math.floor(this.#x(points[i + 1]?.[0] ?? this.model?.end, sight)))
      if (right < NAMES || left > this.size.width || (left === before && right === left + 1 && n <= tallest)) return
      tallest = left === before ? Math.max(tallest, n) : n
      before = left
      brush.fillRect(left, base - (high * n) / peak, right - left, (high * n) / peak)
    })
    brush.fillStyle = colours.failed
    for (const time of failed) brush.fillRect(Math.round(this.#x(time, sight)) - 1, y - this.top + 2, 2, 7)
  }

  #drawName(brush, colours, { row, y, tall }) {
    const { model } = this
    const step = model?.by === 'step' ? model.run.steps.get(row.name) : undefined
    if (step) drawIcon(brush, PATHS[look(step.status).icon], 11, y - this.top + tall / 2 - 7, 14, colours[`${look(step.status).family}-ink`])
    brush.fillStyle = row.name === OUTSIDE ? colours.soft : colours.ink
    brush.font = `12.5px ${colours.sans}`
    const left = model?.by === 'step' ? 32 : 12
    brush.fillText(cut(brush, nameOf(row, model?.by), NAMES - left - 8), left, y - this.top + tall / 2)
  }
}

customElements.define('flow-timeline', FlowTimeline)
