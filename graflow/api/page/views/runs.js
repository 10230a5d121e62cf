// @ts-check
/** The list of runs. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { live } from '../vendor/lit-html/directives/live.js'
import { repeat } from '../vendor/lit-html/directives/repeat.js'
import { badge, icon, marks, progress, short } from '../parts/icons.js'
import { runHref, turned } from '../router.js'
import { barred, copy } from '../store.js'
import { done, isEnd, look, stateOf, total } from '../states.js'
import { clock, iso, number, span, took } from '../time.js'

const FILTERS = ['running', 'queued', 'waiting', 'paused', 'failed', 'lost', 'completed', 'cancelled']
const SINCE = { '': 'ever', '1h': 'the last hour', '24h': '24 hours', '7d': '7 days', '30d': '30 days' }

const nowOf = (row) => {
  if (row.error) return html`<span class=${row.status === 'failed' || row.status === 'lost' ? 'bad' : 'soft'}>${row.error}</span>`
  return html`<span class="soft">${(row.now ?? []).map((each, i) => `${i ? ' · ' : ''}${nowText(each)}`)}</span>`
}

/** @param {any} each a step that runs, with the progress of its members */
const nowText = (each) => (typeof each === 'string' ? each : each.size ? `${each.step} ${number(each.done)} of ${number(each.size)}` : each.step)

const line = (row, model) => {
  const all = total(row.counts)
  const ended = isEnd(row.status)
  return html`<tr data-row aria-selected=${model.chosen.has(row.flow_id)}>
    <td class="optional"><input type="checkbox" aria-label="Choose run ${row.flow_id}" .checked=${live(model.chosen.has(row.flow_id))} @change=${() => model.toggle(row.flow_id)}></td>
    <td>${badge(stateOf(row))}</td>
    <td><a href=${runHref(row.flow_id)}>${row.flow_name}</a>${marks(row)}</td>
    <td class="mono optional"><button class="plainly small mono" title="Copy ${row.flow_id}" @click=${() => copy(row.flow_id)}>${short(row.flow_id)}</button></td>
    <td class="optional">${progress(row.counts ?? {})}<span class="soft">${done(row.counts)}/${all}</span></td>
    <td class="optional now"><div class="cut">${nowOf(row)}</div></td>
    <td class="num soft optional"><time datetime=${iso(row.started_at ?? row.created_at)} title=${iso(row.started_at ?? row.created_at)}>${clock(row.started_at ?? row.created_at)}</time></td>
    <td class="num">${span(row.started_at ? took(row.started_at, ended || row.status === 'paused' ? row.completed_at ?? row.updated_at : null) : null)}</td>
  </tr>`
}

const tools = (model, state) => {
  const { search = '', status = '', flow = '', since = '' } = state.route.query
  const chosen = status.split(',')
  return html`<div class="bar-of-tools">
    <h1>Runs</h1>
    <input type="search" aria-label="Search flow, id, input" placeholder="Search flow, id, input…  /" .value=${live(search)}
      @change=${(event) => model.filter({ search: event.target.value.trim() })}>
    <div class="chips" role="group" aria-label="States">
      ${FILTERS.map((name) => html`<button class="chip s-${look(name).family}" aria-pressed=${chosen.includes(name)} @click=${() => model.toggleStatus(name)}>${icon(look(name).icon)}${name}</button>`)}
    </div>
    <select aria-label="Flow" .value=${live(flow)} @change=${(event) => model.filter({ flow: event.target.value })}>
      <option value="" ?selected=${!flow}>all flows</option>
      ${model.flows.map((each) => html`<option value=${each.name} ?selected=${flow === each.name}>${each.name}</option>`)}
    </select>
    <select aria-label="Since" .value=${live(since)} @change=${(event) => model.filter({ since: event.target.value })}>
      ${Object.entries(SINCE).map(([value, name]) => html`<option value=${value} ?selected=${since === value}>${name}</option>`)}
    </select>
    <button class="primary right" ?disabled=${barred() !== ''} title=${barred() || nothing} @click=${() => model.store.set({ dialog: { kind: 'start', flow } })}>${icon('plus')}Start a run</button>
  </div>`
}

const empty = (state) => {
  const { search, status, flow, since } = state.route.query
  return search || status || flow || since
    ? html`<div class="nothing"><h2>No run is like this</h2><a class="button" href="runs">Show all</a></div>`
    : html`<div class="nothing"><h2>Nothing has run yet</h2><p>Start a run here, or with <code>graflow flow run NAME --flows MODULE</code>.</p></div>`
}

export const view = (model, state) => html`
  <main id="main" class="board" tabindex="-1" aria-busy=${model.rows ? 'false' : 'true'}>
    ${tools(model, state)}
    ${model.fresh ? html`<p><button class="small" @click=${() => model.load()}>${model.fresh} new run${model.fresh > 1 ? 's' : ''}</button></p>` : nothing}
    ${model.said ? html`<p class="note">${model.said}</p>` : nothing}
    ${!model.rows ? nothing : !model.rows.length ? empty(state) : html`
      <div class="card wide"><table class="runs">
        <thead><tr><th class="optional"><span class="hidden-text">Choose</span></th><th>State</th><th>Flow</th><th class="optional">Run</th><th class="optional">Steps</th>
          <th class="optional">Now</th><th class="num optional">Started</th><th class="num">Took</th></tr></thead>
        <tbody>${repeat(model.rows, (row) => row.flow_id, (row) => line(row, model))}</tbody>
      </table></div>
      <div class="pages">
        ${model.chosen.size ? html`<span>${model.chosen.size} chosen:</span>
          <button class="small" ?disabled=${barred() !== ''} title=${barred() || nothing} @click=${() => model.actOnChosen('resume')}>Resume ${model.chosen.size}</button>
          <button class="small danger" ?disabled=${barred() !== ''} title=${barred() || nothing} @click=${() => model.actOnChosen('cancel')}>Cancel ${model.chosen.size}</button>` : nothing}
        <span class="right"></span>
        ${state.route.query.cursor ? html`<a class="button small" href=${turned({ cursor: null })}>Newest</a>` : nothing}
        ${model.next ? html`<a class="button small" href=${turned({ cursor: model.next })}>Older</a>` : nothing}
      </div>`}
  </main>`
