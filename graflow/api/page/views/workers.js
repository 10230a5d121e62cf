// @ts-check
/** Workers and queues. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { repeat } from '../vendor/lit-html/directives/repeat.js'
import { badge } from '../parts/icons.js'
import { href, runHref } from '../router.js'
import { iso, number, span, took } from '../time.js'

/** @param {any} each what a worker does now */
const nowOf = (each) => {
  const text = `${each.name ?? each.step ?? each.task ?? ''}${each.index === null || each.index === undefined ? '' : ` ${number(each.index)}`}`
  const flow = /^(.+)\.\d+:/.exec(each.run_id)?.[1] // a flow's groups begin with `<flow>.<generation>:`
  return html`<a href=${flow ? runHref(flow, { step: each.name, index: each.index }) : `groups/${encodeURIComponent(each.run_id)}`}>${text}</a>`
}

const worker = (row) => html`<tr data-row>
  <td>${badge(row.status)}</td><td class="mono">${row.name}</td><td class="soft optional">${(row.queues ?? []).join(', ')}</td>
  <td class="num">${number(row.busy)}/${number(row.slots) || '?'}</td>
  <td class="optional"><div class="cut">${(row.now ?? []).slice(0, 3).map((each, i) => html`${i ? ' · ' : ''}${nowOf(each)}`)}</div></td>
  <td class="num optional">${number(row.done)}</td><td class="num optional ${row.lost ? 'bad' : ''}">${number(row.lost)}</td>
  <td class="num soft"><time datetime=${iso(row.beat)} title=${iso(row.beat)}>${span(took(row.beat))}</time></td>
  <td class="soft optional">${row.version ?? ''}${row.is_same_code === false ? html` <span class="mark warn" title="Most workers with the same modules run other code">other code</span>` : nothing}</td>
</tr>`

const queue = (row, model) => {
  const isAlone = !row.workers && row.messages
  const rate = model.rate(row.name)
  return html`<tr data-row><td class="mono">${row.name}</td><td class="num ${isAlone ? 'bad' : ''}">${number(row.messages)}</td>
    <td class="num"><time datetime=${iso(row.oldest)} title=${iso(row.oldest)}>${span(took(row.oldest))}</time></td>
    <td class="num ${row.workers ? '' : 'bad'}">${row.workers || '0 — nobody listens'}</td><td class="num optional">${number(row.slots)}</td>
    <td class="num optional">${rate === null ? '' : `${rate < 10 ? +rate.toFixed(1) : number(Math.round(rate))} /s`}</td></tr>`
}

export const view = (model) => {
  const { workers, queues } = model
  if (!workers) return html`<main id="main" class="board" tabindex="-1" aria-busy="true"></main>`
  const reason = workers.reason ?? queues.reason
  return html`<main id="main" class="board" tabindex="-1">
    <div class="bar-of-tools"><h1>Workers</h1><span class="soft">${workers.items.length ? `${workers.items.length} alive` : ''}</span></div>
    ${!workers.items.length ? html`<div class="card nothing"><h2>No workers</h2><p>${reason ?? 'Nothing listens on the broker. What runs, runs in this process.'}</p></div>` : html`
      <div class="card wide"><table><thead><tr><th>State</th><th>Worker</th><th class="optional">Queues</th><th class="num">Busy</th><th class="optional">Now</th>
        <th class="num optional">Done</th><th class="num optional">Lost</th><th class="num">Beat</th><th class="optional">Version</th></tr></thead><tbody>${repeat(workers.items, (row) => row.name, worker)}</tbody></table></div>`}
    ${queues.items.length ? html`<section class="card wide"><h2>Queues</h2><table><thead><tr><th>Queue</th><th class="num">Messages</th><th class="num">Oldest</th><th class="num">Workers</th><th class="num optional">Slots</th><th class="num optional">Rate</th></tr></thead>
      <tbody>${repeat(queues.items, (row) => row.name, (row) => queue(row, model))}</tbody></table></section>` : nothing}
    <p class="soft"><a href=${href('runs', { status: 'running' })}>Runs that run now</a></p>
  </main>`
}
