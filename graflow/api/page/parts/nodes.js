// @ts-check
/** Draws the nodes and edges of a graph. */

import { counted, done, look, stripCounts, total } from '../states.js'
import { number, span, took } from '../time.js'
import { cut, drawIcon } from './canvas.js'
import { PATHS } from './icons.js'

/** @typedef {{name: string, label: string, x: number, y: number, w: number, h: number, steps: string[], isNew: boolean}} Node */
/** @typedef {{from: number, to: number, closes: boolean, bends: number[][]}} Edge */
/** @typedef {CanvasRenderingContext2D} Brush */

const TILE = 24

/**
 * A line from a node to another one, with soft turns.
 * @param {Brush} brush @param {Node} a @param {Node} b @param {Edge} edge @param {boolean} isRight
 */
const trace = (brush, a, b, edge, isRight) => {
  const start = isRight ? [a.x + a.w, a.y + a.h / 2] : [a.x + a.w / 2, a.y + a.h]
  const end = isRight ? [b.x, b.y + b.h / 2] : [b.x + b.w / 2, b.y]
  let [x, y] = start
  brush.moveTo(x, y)
  for (const [px, py] of [...edge.bends, end]) {
    if (isRight) brush.bezierCurveTo((x + px) / 2, y, (x + px) / 2, py, px, py)
    else brush.bezierCurveTo(x, (y + py) / 2, px, (y + py) / 2, px, py)
    ;[x, y] = [px, py]
  }
}

/** An edge that goes back, around the side of both. @param {Brush} brush @param {Node} a @param {Node} b @param {boolean} isRight */
const traceBack = (brush, a, b, isRight) => {
  const out = 26
  if (isRight) {
    brush.moveTo(a.x + a.w * 0.7, a.y + a.h)
    const low = Math.max(a.y + a.h, b.y + b.h) + out
    brush.bezierCurveTo(a.x + a.w * 0.7, low, b.x + b.w * 0.3, low, b.x + b.w * 0.3, b.y + b.h)
  } else {
    brush.moveTo(a.x + a.w, a.y + a.h * 0.7)
    const far = Math.max(a.x + a.w, b.x + b.w) + out
    brush.bezierCurveTo(far, a.y + a.h * 0.7, far, b.y + b.h * 0.3, b.x + b.w, b.y + b.h * 0.3)
  }
}

/**
 * @param {Brush} brush @param {Record<string, string>} colours @param {{nodes: Node[], edges: Edge[], isRight: boolean}} graph
 * @param {{isIn: (node: Node) => boolean, chosen: number, isDim: (node: Node) => boolean}} sight
 */
export const drawEdges = (brush, colours, graph, { isIn, chosen, isDim }) => {
  for (const isChosen of [false, true]) {
    brush.strokeStyle = isChosen ? colours.accent : colours.edge
    brush.lineWidth = isChosen ? 1.8 : 1.1
    for (const edge of graph.edges) {
      const [a, b] = [graph.nodes[edge.from], graph.nodes[edge.to]]
      if ((edge.from === chosen || edge.to === chosen) !== isChosen || !(isIn(a) || isIn(b) || edge.bends.length)) continue
      brush.globalAlpha = isDim(a) || isDim(b) ? 0.3 : 1
      brush.setLineDash(edge.closes ? [5, 4] : [])
      brush.beginPath()
      if (edge.closes) traceBack(brush, a, b, graph.isRight)
      else trace(brush, a, b, edge, graph.isRight)
      brush.stroke()
    }
  }
  brush.setLineDash([])
  brush.globalAlpha = 1
}

/** What a node shows of its step, or of all steps that are folded into it. @param {Node} node @param {Map<string, any>} steps */
export const stateOf = (node, steps) => {
  if (node.steps.length === 1) return steps.get(node.steps[0]) ?? { status: 'pending' }
  /** @type {Record<string, number>} */
  const counts = {}
  for (const name of node.steps) {
    const status = steps.get(name)?.status ?? 'pending'
    counts[status] = (counts[status] ?? 0) + 1
  }
  const status = ['failed', 'running', 'waiting', 'paused', 'queued'].find((each) => counts[each]) ?? (done(counts) === total(counts) ? 'completed' : 'pending')
  return { status, counts, size: node.steps.length }
}

/** A node as a block, where nothing in it could be read. @param {Brush} brush @param {Record<string, string>} colours @param {Node} node @param {any} row */
export const drawBlock = (brush, colours, node, row) => {
  brush.fillStyle = colours[look(row.status).family]
  brush.fillRect(node.x, node.y, node.w, node.h)
}

/** @param {Brush} brush @param {Record<string, string>} colours @param {Node} node @param {any} row @param {boolean} isChosen */
export const drawNode = (brush, colours, node, row, isChosen) => {
  const { family, icon, hollow } = look(row.status)
  const isPending = family === 'pending'
  brush.beginPath()
  brush.roundRect(node.x, node.y, node.w, node.h, 6)
  brush.fillStyle = colours.panel
  brush.fill()
  brush.lineWidth = isChosen ? 2 : 1.2
  brush.strokeStyle = isChosen ? colours.accent : isPending ? colours['line-strong'] : colours[family]
  brush.setLineDash(row.status === 'skipped' && !isChosen ? [4, 3] : [])
  brush.stroke()
  brush.setLineDash([])
  brush.beginPath()
  brush.roundRect(node.x + 6, node.y + 6, TILE, TILE, 5)
  brush.fillStyle = hollow || isPending ? colours[`${family}-tint`] : colours[family]
  brush.fill()
  drawIcon(brush, PATHS[icon], node.x + 10, node.y + 10, 16, hollow || isPending ? colours[`${family}-ink`] : colours[`${family}-on`])
  drawWords(brush, colours, node, row, isPending)
  if (row.size && node.h > 50) drawGroup(brush, colours, node, row)
}

/** @param {Brush} brush @param {Record<string, string>} colours @param {Node} node @param {any} row @param {boolean} isPending */
const drawWords = (brush, colours, node, row, isPending) => {
  brush.textBaseline = 'middle'
  brush.font = `10px ${colours.sans}`
  const parts = [row.visit > 1 ? `×${row.visit}` : '', node.steps.length > 1 ? `${done(row.counts)} of ${row.size}` : span(took(row.started_at, row.completed_at))]
  const time = parts.filter(Boolean).join(' · ')
  const wide = time ? brush.measureText(time).width + 8 : 0
  brush.fillStyle = colours.soft
  brush.textAlign = 'right'
  if (time) brush.fillText(time, node.x + node.w - 8, node.y + 18)
  brush.textAlign = 'left'
  brush.font = `13px ${colours.sans}`
  brush.fillStyle = isPending ? colours.soft : colours.ink
  brush.fillText(cut(brush, node.label, node.w - TILE - 22 - wide), node.x + TILE + 13, node.y + 18.5)
  if (node.isNew) {
    brush.fillStyle = colours.accent
    brush.beginPath()
    brush.arc(node.x + node.w, node.y, 3.5, 0, 7)
    brush.fill()
  }
}

/** The strip of a group and how far it is. @param {Brush} brush @param {Record<string, string>} colours @param {Node} node @param {any} row */
const drawGroup = (brush, colours, node, row) => {
  drawStrip(brush, colours, row, { x: node.x + 7, y: node.y + 35, w: node.w - 14, h: 8 })
  brush.font = `10px ${colours.sans}`
  brush.textAlign = 'left'
  brush.fillStyle = colours.soft
  brush.fillText(`${number(done(row.counts))} of ${number(row.size)}`, node.x + 8, node.y + 52)
  if (!row.counts?.failed) return
  brush.textAlign = 'right'
  brush.fillStyle = colours['failed-ink']
  brush.fillText(`${number(row.counts.failed)} failed`, node.x + node.w - 8, node.y + 52)
}

/** Members in order, as buckets of their states. @param {Brush} brush @param {Record<string, string>} colours @param {any} row @param {{x: number, y: number, w: number, h: number}} box */
export const drawStrip = (brush, colours, row, box) => {
  const strip = row.strip ?? []
  const wide = box.w / Math.max(1, strip.length)
  brush.fillStyle = colours.line
  brush.fillRect(box.x, box.y, box.w, box.h)
  strip.forEach((bucket, i) => {
    const counts = stripCounts(bucket)
    const all = total(counts) || 1
    let y = box.y + box.h
    for (const [state, n] of counted(counts)) {
      if (look(state).family === 'pending') continue
      const tall = Math.max(state === 'failed' ? 1.5 : 0, (box.h * n) / all)
      y -= tall
      brush.fillStyle = colours[look(state).family]
      brush.fillRect(box.x + i * wide, Math.max(box.y, y), Math.max(0.7, wide - (wide > 3 ? 0.5 : 0)), tall)
    }
  })
}
