// @ts-check
/** A log of any number of lines, of which those in sight are real elements. */

import { html, nothing, render } from '../vendor/lit-html/lit-html.js'
import { live } from '../vendor/lit-html/directives/live.js'
import { LEVELS } from '../model/log.js'
import { turned } from '../router.js'
import { clock, iso, number } from '../time.js'
import { visible } from './trace.js'

const ROW = 20
const MORE = 6 // rows beyond what is in sight
const LONGEST = 4000 // characters of a line that are shown
const GRAVE = /** @type {Record<string, string>} */ ({ WARNING: 'warn', ERROR: 'bad', CRITICAL: 'bad', ERR: 'warn', DEBUG: 'soft' })

class LogLines extends HTMLElement {
  constructor() {
    super()
    /** @type {import('../model/log.js').Log | null} */
    this.log = null
    this.pointed = 0 // the line that the address names, once it has been gone to
    this.key = ''
    this.onScroll = () => this.#scrolled()
  }

  connectedCallback() {
    this.tabIndex = 0
    this.setAttribute('role', 'table')
    this.setAttribute('aria-label', 'Log')
    this.addEventListener('scroll', this.onScroll, { passive: true })
    this.sizes = new ResizeObserver(() => this.draw())
    this.sizes.observe(this)
  }

  disconnectedCallback() {
    this.removeEventListener('scroll', this.onScroll)
    this.sizes?.disconnect()
  }

  /** @param {{log: import('../model/log.js').Log, size: number, line: number, key: string}} about */
  set about({ log, line, key }) {
    if (this.log !== log || this.key !== key) {
      this.scrollTop = 0
      this.pointed = 0
    }
    Object.assign(this, { log, key })
    this.draw()
    if (line && line !== this.pointed && line <= log.rows.length) {
      this.pointed = line
      this.scrollTop = (line - 3) * ROW
      this.draw()
    } else if (log.isFollowed) this.scrollTop = this.scrollHeight
  }

  /** Who scrolls back wants to read, not to follow. */
  #scrolled() {
    const isAtEnd = this.scrollTop + this.clientHeight >= this.scrollHeight - ROW
    if (this.log?.isFollowed && !isAtEnd && !this.log.isBusy) this.log.follow(false)
    this.draw()
  }

  draw() {
    const { log } = this
    if (!log || !this.clientHeight) return
    const first = Math.max(0, Math.floor(this.scrollTop / ROW) - MORE)
    const last = Math.min(log.rows.length, first + Math.ceil(this.clientHeight / ROW) + 2 * MORE) - 1
    log.want(last)
    this.setAttribute('aria-rowcount', String(log.rows.length))
    const chosen = Number(log.step.query.line)
    render(html`<div class="l-body" role="rowgroup">${log.rows.slice(first, last + 1).map((row) => line(row, row.number === chosen, log.step.size > 0))}</div>`, this)
    const body = /** @type {HTMLElement} */ (this.firstElementChild)
    body.style.height = `${log.rows.length * ROW}px`
    for (const [i, element] of /** @type {HTMLElement[]} */ ([...body.children]).entries()) element.style.top = `${(first + i) * ROW}px`
  }
}

customElements.define('log-lines', LogLines)

/** @param {any} row @param {boolean} isChosen @param {boolean} isOfGroup whether members say it, each with its number */
const line = ({ number: place, at, level, text, index, isFirst }, isChosen, isOfGroup) => html`<div class="l-row ${isChosen ? 'at' : ''} ${isOfGroup ? 'many' : ''}" role="row" aria-rowindex=${place}>
  <span role="cell" class="num"><a class="soft" href=${turned({ line: place })} data-replace aria-label="Link to line ${place}">${place}</a></span>
  ${isOfGroup ? html`<span role="cell" class="num">${isFirst && index !== null ? html`<a href=${turned({ index, line: null })} aria-label="Member ${index}">${index}</a>` : nothing}</span>` : nothing}
  <span role="cell">${isFirst ? html`<time datetime=${iso(at)} title=${iso(at)}>${clock(at)}</time>` : nothing}</span>
  <span role="cell" class=${GRAVE[level] ?? 'soft'}>${isFirst ? level : nothing}</span>
  <span role="cell" class=${GRAVE[level] === 'bad' ? 'bad' : ''}>${visible(text.slice(0, LONGEST))}${text.length > LONGEST ? '…' : ''}</span></div>`

/** @param {import('../model/log.js').Log} log */
const state = (log) => {
  const { rows, isAll, isFull } = log
  if (log.problem) return html`<span class="bad">${log.problem.message}</span>`
  if (isAll && !rows.length) return log.filter.level || log.filter.search ? 'No line is like this' : 'Nothing was said, or it was not kept'
  return html`${number(rows.length)} lines${isAll ? '' : isFull ? '; a filter finds others' : ' so far'}`
}

/** @param {import('../model/step.js').Step} step */
export const view = (step) => {
  const { log } = step
  const { level = '', find = '', line: place } = step.query
  return html`<div class="members-head"><div class="row">
      <input type="search" aria-label="Search lines" placeholder="Search…" size="16" .value=${live(find)} @change=${(event) => log.turn({ find: event.target.value, line: null })}>
      <select aria-label="Level" @change=${(event) => log.turn({ level: event.target.value, line: null })}>
        <option value="" ?selected=${!level}>all levels</option>${LEVELS.slice(1).map((name) => html`<option value=${name} ?selected=${level === name}>${name} and above</option>`)}</select>
      <button class="small" aria-pressed=${log.isFollowed} @click=${() => log.follow(!log.isFollowed)}>Follow</button>
      <a class="button small" href="api/v1/${log.path({ download: 1 })}" download data-plain>Download</a>
      <span class="soft right">${state(log)}</span></div></div>
    <log-lines .about=${{ log, size: log.rows.length, line: Number(place) || 0, key: log.key }}></log-lines>`
}
