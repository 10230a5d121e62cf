// @ts-check
/** Icons as strokes on a grid of 16, the same in the page and on the canvas; labels and bars of states. */

import { html, nothing, svg } from '../vendor/lit-html/lit-html.js'
import { counted, look, total } from '../states.js'

/** @type {Record<string, string>} */
export const PATHS = {
  ring: 'M8 4.6a3.4 3.4 0 1 1 0 6.8a3.4 3.4 0 1 1 0-6.8',
  lines: 'M3.5 5h9M3.5 8h9M3.5 11h6',
  'open-ring': 'M8 2.8a5.2 5.2 0 1 0 5.2 5.2',
  tick: 'M3.2 8.6l3.2 3.2l6.4-7',
  flash: 'M9 2.2L4 9h3.4L7 13.8L12 7H8.6z',
  cross: 'M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6',
  bars: 'M5.6 3.6v8.8M10.4 3.6v8.8',
  'round-arrow': 'M12.6 6.2A5 5 0 1 0 13 9M12.9 2.9v3.5H9.4',
  question: 'M5.6 5.8a2.4 2.4 0 1 1 3.6 2.1c-.9.5-1.2.9-1.2 1.9M8 12.6v.2',
  'struck-ring': 'M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 1 1 0-10.4M4.4 11.6l7.2-7.2',
  chevrons: 'M3.4 4l4 4l-4 4M8.4 4l4 4l-4 4',
  play: 'M5 3.2v9.6l7.6-4.8z',
  fork: 'M4.5 2.5v11M4.5 10c0-4 7-2 7-6.6M9.4 5l2.1-2.1L13.6 5',
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  copy: 'M5.5 5.5h7v7h-7zM3.5 10.5v-7h7',
  down: 'M8 3v8M4.5 8L8 11.5L11.5 8M3 13.5h10',
  left: 'M9.8 3.5L5.3 8l4.5 4.5',
  right: 'M6.2 3.5L10.7 8l-4.5 4.5',
  theme: 'M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 1 1 0-10.4M8 2.8v10.4',
}

/** @param {string} name @param {string} [kind] a class */
export const icon = (name, kind = '') =>
  html`<svg class="icon ${kind}" viewBox="0 0 16 16" aria-hidden="true">${svg`<path d=${PATHS[name] ?? PATHS.question}></path>`}</svg>`

/** The icon and word of a state. @param {string} state */
export const stateWord = (state) => html`<span class="word s-${look(state).family}">${icon(look(state).icon)} ${state}</span>`

/** The same as a label on a tint. @param {string} state */
export const badge = (state) => html`<span class="badge s-${look(state).family} ${look(state).hollow ? 'hollow' : ''}">${icon(look(state).icon)}${state}</span>`

/** Of each state of a question its family, icon and word. @type {Record<string, [string, string, string]>} */
const QUESTIONS = {
  open: ['waiting', 'question', 'open'], answered: ['completed', 'tick', 'answered'], defaulted: ['completed', 'flash', 'by default'],
  expired: ['cancelled', 'cross', 'expired'], withdrawn: ['cancelled', 'struck-ring', 'withdrawn'],
}
const APPROVED = ['completed', 'tick', 'approved']
const REJECTED = ['failed', 'cross', 'rejected']

/** The state of a question as a label; of an approval, what was decided. @param {any} question */
export const questionBadge = ({ state, value }) => {
  const [family, image, name] = state === 'answered' && typeof value === 'boolean' ? (value ? APPROVED : REJECTED) : QUESTIONS[state] ?? QUESTIONS.open
  return html`<span class="badge s-${family}">${icon(image)}${name}</span>`
}

/** A bar of counts by state. @param {Record<string, number>} counts @param {number} [all] */
export const progress = (counts, all = total(counts)) => {
  let x = 0
  const parts = counted(counts).filter(([state]) => look(state).family !== 'pending').map(([state, n]) => {
    const width = all ? (100 * n) / all : 0
    const part = svg`<rect class="fill s-${look(state).family}" x=${x} y="0" width=${width} height="6"></rect>`
    x += width
    return part
  })
  return html`<svg class="progress" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">${parts}</svg>`
}

export const marks = (row) => html`
  ${row.degraded ? html`<span class="mark warn" title="A part of it ran without being recorded">degraded</span>` : nothing}
  ${row.parent_flow_id ? html`<span class="mark" title="Forked from ${row.parent_flow_id}, or started by it">from ${row.parent_flow_id.slice(0, 8)}</span>` : nothing}`

/** @param {string} id */
export const short = (id) => (/^[0-9a-f]{8}-[0-9a-f]{4}-/.test(id) ? id.slice(0, 13) : id.length > 22 ? `${id.slice(0, 20)}…` : id)
