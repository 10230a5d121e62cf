// @ts-check
/** The list of groups on workers that belong to no flow. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { repeat } from '../vendor/lit-html/directives/repeat.js'
import { badge, progress, short } from '../parts/icons.js'
import { turned } from '../router.js'
import { done } from '../states.js'
import { clock, iso, number, span, took } from '../time.js'

const line = (row) => html`<tr data-row><td>${badge(row.status)}</td><td>${row.name ?? row.group ?? ''}</td>
  <td class="mono"><a href=${`groups/${encodeURIComponent(row.run_id)}`}>${short(row.run_id)}</a></td>
  <td class="optional">${progress(row.counts ?? {}, row.size)}<span class="soft">${number(done(row.counts))}/${number(row.size)}</span></td>
  <td class="num soft optional"><time datetime=${iso(row.started_at)} title=${iso(row.started_at)}>${clock(row.started_at)}</time></td>
  <td class="num">${span(took(row.started_at, row.completed_at))}</td></tr>`

export const view = (model, state) => html`<main id="main" class="board" tabindex="-1" aria-busy=${model.rows ? 'false' : 'true'}>
  <div class="bar-of-tools"><h1>Groups</h1><span class="soft">on workers, of workflows that are not recorded as flows</span></div>
  ${!model.rows ? nothing : !model.rows.length ? html`<div class="card nothing"><h2>No group</h2><p>${model.reason ?? 'What is submitted to workers outside of flows is listed here.'}</p></div>` : html`
    <div class="card wide"><table><thead><tr><th>State</th><th>Group</th><th>Run</th><th class="optional">Members</th><th class="num optional">Started</th><th class="num">Took</th></tr></thead>
      <tbody>${repeat(model.rows, (row) => row.run_id, line)}</tbody></table></div>
    <div class="pages"><span class="right"></span>${state.route.query.cursor ? html`<a class="button small" href=${turned({ cursor: null })}>Newest</a>` : nothing}
      ${model.next ? html`<a class="button small" href=${turned({ cursor: model.next })}>Older</a>` : nothing}</div>`}
</main>`
