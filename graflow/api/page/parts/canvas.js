// @ts-check
/** What pictures on a canvas share: sharp pixels, colours of the theme, one drawing a frame. */

import { FAMILIES } from '../states.js'

const NAMES = ['back', 'panel', 'stripe', 'line', 'line-strong', 'ink', 'soft', 'accent', 'edge', 'failed-ink', 'hover']

/** @type {Record<string, string> | null} */
let colours = null
addEventListener('theme', () => { colours = null })

/** The colours of the theme, by name. */
export const palette = () => {
  if (colours) return colours
  const style = getComputedStyle(document.documentElement)
  const names = [...NAMES, ...FAMILIES.flatMap((family) => [family, `${family}-ink`, `${family}-tint`, `${family}-on`])]
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]))
  colours.sans = style.getPropertyValue('--sans')
  return colours
}

/** An element that draws itself on a canvas, when something has changed. */
export class Picture extends HTMLElement {
  constructor() {
    super()
    this.canvas = document.createElement('canvas')
    this.canvas.setAttribute('aria-hidden', 'true')
    this.brush = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext('2d'))
    this.size = { width: 0, height: 0 }
    this.isAsked = false
    /** @type {number[]} milliseconds of the last drawings */
    this.times = []
    this.sizes = new ResizeObserver(() => this.resized())
    this.onTheme = () => this.ask()
  }

  connectedCallback() {
    if (!this.canvas.isConnected) this.prepend(this.canvas)
    this.sizes.observe(this)
    addEventListener('theme', this.onTheme)
  }

  disconnectedCallback() {
    this.sizes.disconnect()
    removeEventListener('theme', this.onTheme)
  }

  resized() {
    const ratio = window.devicePixelRatio || 1
    this.size = { width: this.clientWidth, height: this.clientHeight }
    this.canvas.width = Math.round(this.size.width * ratio)
    this.canvas.height = Math.round(this.size.height * ratio)
    this.#now()
  }

  /** Have it drawn with the next frame. */
  ask() {
    if (this.isAsked) return
    this.isAsked = true
    requestAnimationFrame(() => { if (this.isAsked) this.#now() })
  }

  #now() {
    this.isAsked = false
    if (!this.isConnected || !this.size.width) return
    const began = performance.now()
    const ratio = window.devicePixelRatio || 1
    this.brush.setTransform(ratio, 0, 0, ratio, 0, 0)
    this.brush.clearRect(0, 0, this.size.width, this.size.height)
    this.draw(this.brush, palette())
    this.times = [...this.times.slice(-199), performance.now() - began]
  }

  /** @param {CanvasRenderingContext2D} _brush @param {Record<string, string>} _colours */
  draw(_brush, _colours) {}
}

const cuts = new Map()

/** A text that is no wider than so many pixels. @param {CanvasRenderingContext2D} brush @param {string} text @param {number} width */
export const cut = (brush, text, width) => {
  const key = `${brush.font}|${Math.round(width)}|${text}`
  const known = cuts.get(key)
  if (known !== undefined) return known
  let shown = text
  if (brush.measureText(text).width > width) {
    let [low, high] = [0, text.length]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (brush.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle
      else high = middle - 1
    }
    shown = `${text.slice(0, low)}…`
  }
  if (cuts.size > 5000) cuts.clear()
  cuts.set(key, shown)
  return shown
}

/** @type {Map<string, Path2D>} */
const paths = new Map()

/** An icon. @param {CanvasRenderingContext2D} brush @param {string} path @param {number} x @param {number} y @param {number} size @param {string} colour */
export const drawIcon = (brush, path, x, y, size, colour) => {
  const known = paths.get(path) ?? new Path2D(path)
  paths.set(path, known)
  brush.save()
  brush.translate(x, y)
  brush.scale(size / 16, size / 16)
  brush.strokeStyle = colour
  brush.lineWidth = 1.8
  brush.lineCap = 'round'
  brush.lineJoin = 'round'
  brush.stroke(known)
  brush.restore()
}
