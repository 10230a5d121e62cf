// @ts-check
/** The picture of a graph: moved, made larger, walked through; what is not in sight costs nothing. */

import { URGENT, look } from '../states.js'
import { centred, fitted, moved, opened, seesAll, shown, zoomed } from './camera.js'
import { Picture, palette } from './canvas.js'
import { drawBlock, drawEdges, drawNode, stateOf } from './nodes.js'
import { GraphKeys } from './graph-keys.js'

const BLOCKS_BELOW = 0.2
const DOTS_ABOVE = 0.6
const STEP = 1.25
const CLICK = 4 // pixels that a pointer may move and still have clicked

export class FlowGraph extends Picture {
  constructor() {
    super()
    this.layout = null
    /** @type {Map<string, any>} */
    this.steps = new Map()
    this.chosen = ''
    /** @type {Set<string> | null} */
    this.hits = null
    /** @type {import('./camera.js').Camera | null} */
    this.camera = null
    this.isTouched = false
    this.walker = new GraphKeys(this)
    this.minimap = document.createElement('canvas')
    this.minimap.className = 'minimap'
    this.minimap.setAttribute('aria-hidden', 'true')
    this.#listen()
  }

  connectedCallback() {
    super.connectedCallback()
    this.append(this.minimap, this.walker.element)
  }

  set graph(graph) {
    if (graph === this.layout) return
    const isOther = !this.layout || this.layout.isRight !== graph?.isRight
    this.layout = graph
    if (isOther) { this.camera = null; this.isTouched = false }
    this.ask()
  }

  /** What is shown of the steps changes often, and the whole is drawn once for all. @param {{steps: Map<string, any>, chosen: string, hits: string[] | null}} sight */
  set sight({ steps, chosen, hits }) {
    this.steps = steps
    this.hits = hits && new Set(hits)
    if (chosen !== this.chosen) {
      this.chosen = chosen
      this.reveal(chosen)
    }
    this.walker.update()
    this.ask()
  }

  resized() {
    if (!this.isTouched) this.camera = null
    super.resized()
    if (this.chosen) this.reveal(this.chosen)
  }

  /** @param {string} name */
  indexOf(name) {
    return this.layout?.places.get(name) ?? -1
  }

  /** Bring a step into sight. @param {string} name */
  reveal(name) {
    const node = this.layout?.nodes[this.indexOf(name)]
    if (!node || !this.camera || !this.size.width) return
    const near = this.camera.scale < 0.4 ? centred(node.x + node.w / 2, node.y + node.h / 2, 0.78, this.size) : this.camera
    this.camera = shown(near, node, this.size)
    this.ask()
  }

  fit() {
    if (!this.layout) return
    this.camera = fitted(this.layout, this.size)
    this.isTouched = true
    this.ask()
  }

  /** @param {number} direction 1 for larger, −1 for smaller */
  zoom(direction) {
    this.camera = zoomed(this.camera ?? this.#first(), STEP ** direction, this.size.width / 2, this.size.height / 2)
    this.isTouched = true
    this.ask()
  }

  #first() {
    const { nodes } = this.layout
    let matter = null
    for (const state of URGENT) {
      const node = nodes.find((each) => stateOf(each, this.steps).status === state)
      if (node) { matter = { x: node.x + node.w / 2, y: node.y + node.h / 2 }; break }
    }
    return opened(this.layout, this.size, matter ?? (nodes[0] ? { x: nodes[0].x, y: nodes[0].y } : null))
  }

  /** @param {number} sx @param {number} sy */
  nodeAt(sx, sy) {
    const camera = this.camera
    if (!camera || !this.layout) return null
    const [x, y] = [sx / camera.scale + camera.x, sy / camera.scale + camera.y]
    return this.layout.nodes.find((node) => x >= node.x && x <= node.x + node.w && y >= node.y && y <= node.y + node.h) ?? null
  }

  choose(node) {
    this.dispatchEvent(new CustomEvent('choose', { detail: node ? node.steps[0] : '' }))
  }

  #listen() {
    /** @type {Map<number, PointerEvent>} */
    const down = new Map()
    let far = 0
    this.addEventListener('wheel', (event) => {
      event.preventDefault()
      if (!this.camera) return
      this.camera = zoomed(this.camera, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY)
      this.isTouched = true
      this.ask()
    }, { passive: false })
    this.canvas.addEventListener('pointerdown', (event) => {
      if (event.button) return
      this.canvas.setPointerCapture(event.pointerId)
      down.set(event.pointerId, event)
      far = 0
    })
    this.canvas.addEventListener('pointermove', (event) => {
      const before = down.get(event.pointerId)
      if (!before || !this.camera) { this.canvas.style.cursor = this.nodeAt(event.offsetX, event.offsetY) ? 'pointer' : 'grab'; return }
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY]
      far += Math.abs(dx) + Math.abs(dy)
      const other = [...down.values()].find((each) => each.pointerId !== event.pointerId)
      if (other) {
        const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1
        this.camera = zoomed(this.camera, apart(event) / apart(before), event.offsetX, event.offsetY)
      } else this.camera = moved(this.camera, dx, dy)
      down.set(event.pointerId, event)
      this.isTouched = true
      this.ask()
    })
    const up = (event) => {
      if (down.delete(event.pointerId) && event.type === 'pointerup' && far < CLICK) this.choose(this.nodeAt(event.offsetX, event.offsetY))
    }
    this.canvas.addEventListener('pointerup', up)
    this.canvas.addEventListener('pointercancel', up)
    this.minimap.addEventListener('pointerdown', (event) => {
      if (!this.layout || !this.camera) return
      const ratio = this.layout.width / this.minimap.clientWidth
      this.camera = centred(event.offsetX * ratio, event.offsetY * ratio, this.camera.scale, this.size)
      this.isTouched = true
      this.ask()
    })
  }

  /** @param {CanvasRenderingContext2D} brush @param {Record<string, string>} colours */
  draw(brush, colours) {
    const { layout, size } = this
    if (!layout?.nodes.length) return
    const camera = (this.camera ??= this.#first())
    if (camera.scale > DOTS_ABOVE) this.#drawDots(brush, colours, camera)
    const [left, top, right, bottom] = [camera.x, camera.y, camera.x + size.width / camera.scale, camera.y + size.height / camera.scale]
    const isIn = (node) => node.x < right && node.x + node.w > left && node.y < bottom && node.y + node.h > top
    const isDim = (node) => this.hits !== null && !node.steps.some((name) => this.hits?.has(name))
    const chosen = this.indexOf(this.chosen)
    brush.save()
    brush.scale(camera.scale, camera.scale)
    brush.translate(-camera.x, -camera.y)
    drawEdges(brush, colours, layout, { isIn, chosen, isDim })
    layout.nodes.forEach((node, i) => {
      if (!isIn(node)) return
      brush.globalAlpha = isDim(node) ? 0.25 : 1
      const row = stateOf(node, this.steps)
      if (camera.scale < BLOCKS_BELOW) drawBlock(brush, colours, node, row)
      else drawNode(brush, colours, node, row, i === chosen)
    })
    brush.restore()
    this.#drawMinimap(camera)
  }

  /** @param {CanvasRenderingContext2D} brush @param {Record<string, string>} colours @param {import('./camera.js').Camera} camera */
  #drawDots(brush, colours, camera) {
    const apart = 24 * camera.scale
    brush.fillStyle = colours.line
    for (let x = -((camera.x * camera.scale) % apart); x < this.size.width; x += apart) {
      for (let y = -((camera.y * camera.scale) % apart); y < this.size.height; y += apart) brush.fillRect(x, y, 1, 1)
    }
  }

  /** @param {import('./camera.js').Camera} camera */
  #drawMinimap(camera) {
    const { layout, minimap } = this
    const isNeeded = !seesAll(camera, layout, this.size) && this.size.width > 600
    minimap.hidden = !isNeeded
    if (!isNeeded) return
    const scale = Math.min(200 / layout.width, Math.min(260, this.size.height - 40) / layout.height)
    const [width, height] = [Math.max(24, Math.round(layout.width * scale)), Math.max(24, Math.round(layout.height * scale))]
    if (minimap.width !== width || minimap.height !== height) {
      minimap.width = width
      minimap.height = height
      minimap.style.width = `${width}px`
      minimap.style.height = `${height}px`
    }
    const brush = /** @type {CanvasRenderingContext2D} */ (minimap.getContext('2d'))
    const colours = palette()
    brush.clearRect(0, 0, width, height)
    for (const node of layout.nodes) {
      brush.fillStyle = colours[look(stateOf(node, this.steps).status).family]
      brush.fillRect(node.x * scale, node.y * scale, Math.max(1.5, node.w * scale), Math.max(1.5, node.h * scale))
    }
    brush.strokeStyle = colours.accent
    brush.lineWidth = 1.5
    brush.strokeRect(camera.x * scale, camera.y * scale, (this.size.width / camera.scale) * scale, (this.size.height / camera.scale) * scale)
  }
}

customElements.define('flow-graph', FlowGraph)
