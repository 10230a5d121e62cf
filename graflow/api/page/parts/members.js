// @ts-check
/** A table of any number of members, of which those in sight are real elements; and the strip of all of them. */

import { html, nothing, render, svg } from '../vendor/lit-html/lit-html.js'
import { live } from '../vendor/lit-html/directives/live.js'
import { counted, look, stripCounts, total } from '../states.js'
import { clock, iso, number, span, took } from '../time.js'
import { icon, stateWord } from './icons.js'

const ROW = 26
const MORE = 4 // rows beyond what is in sight
const HIGHEST = 8_000_000 // pixels that browsers still lay out

export class MemberTable extends HTMLElement {
  constructor() {
    super()
    this.source = null
    this.version = -1
    this.drawn = ''
    this.onScroll = () => this.draw()
  }

  connectedCallback() {
    this.tabIndex = 0
    this.setAttribute('role', 'table')
    this.setAttribute('aria-label', 'Members')
    this.addEventListener('scroll', this.onScroll, { passive: true })
    this.sizes = new ResizeObserver(() => this.draw())
    this.sizes.observe(this)
  }

  disconnectedCallback() {
    this.removeEventListener('scroll', this.onScroll)
    this.sizes?.disconnect()
  }

  /** @param {{pages: any, version: number}} rows */
  set rows({ pages }) {
    const isOther = this.source !== pages
    this.source = pages
    if (isOther) this.scrollTop = 0
    this.draw()
  }

  /** Pixels of a row; less than that for more rows than a browser can lay out. */
  get ratio() {
    return Math.min(1, HIGHEST / Math.max(1, this.source.total * ROW))
  }

  /** @param {number} row */
  jump(row) {
    this.scrollTop = row * ROW * this.ratio
    this.draw()
  }

  draw() {
    const { source } = this
    if (!source || !this.clientHeight) return
    const { ratio } = this
    const inSight = Math.ceil(this.clientHeight / ROW)
    const first = Math.max(0, Math.floor(this.scrollTop / ROW / ratio) - MORE)
    const last = Math.min(source.total, first + inSight + 2 * MORE) - 1
    source.want(first, Math.max(first, last))
    this.setAttribute('aria-rowcount', String(source.total + 1))
    const rows = []
    for (let row = first; row <= last; row += 1) rows.push(line(row, source.at(row)))
    render(html`<div class="m-row m-head" role="row" aria-rowindex="1">${['#', 'state', 'worker', 'started'].map((name) => html`<span role="columnheader">${name}</span>`)}
        <span role="columnheader" class="num">took</span><span role="columnheader" class="num">try</span></div>
      <div class="m-body" role="rowgroup" @click=${(event) => this.#open(event)}>${rows}</div>`, this)
    const body = /** @type {HTMLElement} */ (this.querySelector('.m-body'))
    body.style.height = `${source.total * ROW * ratio}px`
    const top = first * ROW * ratio
    for (const [i, element] of /** @type {HTMLElement[]} */ ([...body.children]).entries()) element.style.top = `${top + i * ROW}px`
  }

  /** @param {Event} event */
  #open(event) {
    const row = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest('[data-index]'))
    if (row?.dataset.index) this.dispatchEvent(new CustomEvent('open', { detail: Number(row.dataset.index) }))
  }
}

customElements.define('member-table', MemberTable)

/** @param {number} place @param {any[] | undefined} row */
const line = (place, row) => {
  if (!row) return html`<div class="m-row soft" role="row" aria-rowindex=${place + 2}><span role="cell">…</span></div>`
  const [index, status, attempts, worker, started, finished] = row
  return html`<div class="m-row" role="row" data-row aria-rowindex=${place + 2} data-index=${index}>
    <span role="cell"><button class="plainly small" aria-label="Member ${index}">${index}</button></span><span role="cell">${stateWord(status)}</span><span role="cell">${worker ?? ''}</span>
    <span role="cell"><time datetime=${iso(started)}>${clock(started)}</time></span><span role="cell" class="num">${span(took(started, finished))}</span><span role="cell" class="num">${attempts || ''}</span>
  </div>`
}

/** @param {any} row @param {(index: number) => void} jump */
export const strip = (row, jump) => {
  const buckets = row.strip ?? []
  const wide = 100 / Math.max(1, buckets.length)
  const bars = buckets.map((bucket, i) => {
    const counts = stripCounts(bucket)
    const all = total(counts) || 1
    let y = 34
    return counted(counts).filter(([state]) => look(state).family !== 'pending').map(([state, n]) => {
      const tall = Math.max(state === 'failed' ? 2 : 0, (34 * n) / all)
      y = Math.max(0, y - tall)
      return svg`<rect class="fill s-${look(state).family}" x=${i * wide} y=${y} width=${Math.max(0.2, wide - 0.15)} height=${tall}></rect>`
    })
  })
  const onClick = (event) => {
    const box = event.currentTarget.getBoundingClientRect()
    jump(Math.floor(((event.clientX - box.left) / box.width) * row.size))
  }
  return html`<svg class="strip" viewBox="0 0 100 34" preserveAspectRatio="none" aria-hidden="true" @click=${onClick}>${bars}</svg>`
}

export const membersTab = (step) => {
  const { shown, members } = step
  const { member_status: status = '', search = '', sort = '' } = step.query
  const table = () => /** @type {any} */ (document.querySelector('member-table'))
  const jump = (index) => {
    if (status || search || sort) members.turn({ member_status: null, search: null, sort: null })
    requestAnimationFrame(() => table()?.jump(index))
  }
  return html`
    <div class="members-head">
      ${strip(shown, jump)}
      <div class="chips" role="group" aria-label="Members by state">${counted(shown.counts).map(([name, n]) =>
        html`<button class="chip s-${look(name).family}" aria-pressed=${status === name} @click=${() => members.turn({ member_status: status === name ? null : name })}>${icon(look(name).icon)}${name} <b>${number(n)}</b></button>`)}</div>
      <form class="row" @submit=${(event) => { event.preventDefault(); jump(Math.min(shown.size - 1, Math.max(0, Number(event.target.elements.to.value)))) }}>
        <input type="text" aria-label="Search members" placeholder="Worker, error…" size="14" .value=${live(search)} @change=${(event) => members.turn({ search: event.target.value.trim() })}>
        <select aria-label="Order" @change=${(event) => members.turn({ sort: event.target.value })}>
          ${[['', 'by number'], ['duration', 'longest first'], ['started', 'by start']].map(([value, name]) => html`<option value=${value} ?selected=${sort === value}>${name}</option>`)}
        </select>
        <input name="to" type="number" min="0" max=${shown.size - 1} aria-label="Go to member" placeholder="go to #">
        <button hidden>Go</button>
      </form>
      ${members?.problem ? html`<p class="bad">${members.problem.message}</p>` : nothing}
      ${members && !members.total ? html`<p class="soft">No member is like this</p>` : nothing}
    </div>
    ${members ? html`<member-table .rows=${{ pages: members, version: members.version }} @open=${(event) => step.openMember(event.detail)}></member-table>` : nothing}`
}
