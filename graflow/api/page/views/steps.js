// @ts-check
/** The steps of a run as a table: the equal of graph and timeline for readers. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { repeat } from '../vendor/lit-html/directives/repeat.js'
import { stateWord } from '../parts/icons.js'
import { turn, turned } from '../router.js'
import { done } from '../states.js'
import { clock, iso, millis, number, span, took } from '../time.js'

const COLUMNS = /** @type {[string, string, string][]} */ ([
  ['status', 'State', ''], ['step', 'Step', ''], ['size', 'Members', 'num optional'], ['after', 'After', 'optional'], ['worker', 'Worker', 'optional'],
  ['attempts', 'Attempts', 'num optional'], ['started_at', 'Started', 'num optional'], ['took', 'Took', 'num'],
])

const VALUES = /** @type {Record<string, (row: any) => any>} */ ({
  took: (row) => took(row.started_at, row.completed_at) ?? -1,
  started_at: (row) => millis(row.started_at) ?? Infinity,
  after: (row) => (row.after ?? []).join(' '),
})

/** @param {any[]} rows @param {string} sort a column, with a minus before it for the other direction */
export const sorted = (rows, sort) => {
  const name = sort.replace(/^-/, '')
  const value = VALUES[name] ?? ((row) => row[name] ?? '')
  const sign = sort.startsWith('-') ? -1 : 1
  return rows.slice().sort((a, b) => {
    const [one, other] = [value(a), value(b)]
    return one === other ? 0 : (one < other ? -1 : 1) * sign
  })
}

/** @param {any} row @param {string} chosen */
const line = (row, chosen) => html`<tr data-row class=${row.step === chosen ? 'at' : ''} aria-selected=${row.step === chosen}>
  <td>${stateWord(row.status)}</td>
  <td><a href=${turned({ step: row.step, index: null, tab: null, visit: null })}>${row.step}</a>${row.visit > 1 ? html`<span class="mark">×${row.visit}</span>` : nothing}</td>
  <td class="num optional">${row.size ? `${number(done(row.counts))} of ${number(row.size)}` : ''}</td>
  <td class="soft optional">${(row.after ?? []).slice(0, 3).join(', ')}${(row.after ?? []).length > 3 ? ` and ${row.after.length - 3} more` : ''}</td>
  <td class="mono optional">${row.worker ?? ''}</td>
  <td class="num optional">${row.attempts || ''}</td>
  <td class="num soft optional"><time datetime=${iso(row.started_at)} title=${iso(row.started_at)}>${clock(row.started_at)}</time></td>
  <td class="num">${span(took(row.started_at, row.completed_at))}</td>
</tr>`

const MOST = 500

export const view = (model, state) => {
  const { sort = '', step = '', rows: all } = state.route.query
  const hits = model.hits && new Set(model.hits)
  const found = [...model.steps.values()].filter((row) => !hits || hits.has(row.step))
  const rows = sort ? sorted(found, sort) : found
  const most = all ? rows.length : MOST
  const arrow = (name) => (sort === name ? ' ▲' : sort === `-${name}` ? ' ▼' : '')
  return html`<div class="sight" tabindex="-1">
    <table>
      <thead><tr>${COLUMNS.map(([name, title, kind]) => html`<th class=${kind} aria-sort=${sort === name ? 'ascending' : sort === `-${name}` ? 'descending' : 'none'}>
        <button @click=${() => turn({ sort: sort === name ? `-${name}` : name }, { replace: true })}>${title}${arrow(name)}</button></th>`)}</tr></thead>
      <tbody>${repeat(rows.slice(0, most), (row) => row.step, (row) => line(row, step))}</tbody>
    </table>
    ${rows.length > most ? html`<p class="nothing">${rows.length - most} more; <a href=${turned({ rows: 'all' })}>show all</a></p>` : nothing}
    ${rows.length ? nothing : html`<div class="nothing">${hits ? 'No step is like this' : 'No step has begun'}</div>`}
  </div>`
}
