// @ts-check
/** What came of many runs; each figure says of how many. */

import { html, nothing, svg } from '../vendor/lit-html/lit-html.js'
import { icon } from '../parts/icons.js'
import { PERIODS } from '../model/stats.js'
import { href, turn, turned } from '../router.js'
import { counted, look } from '../states.js'
import { bytes, number, span } from '../time.js'

const share = (part) => (part === null || part === undefined ? '–' : `${(100 * part).toFixed(part === 1 || part === 0 ? 0 : 1)} %`)

/** Bars over a time or a scale; the highest is as high as they can be. @param {number[] | undefined} values @param {string} family @param {number} height */
const bars = (values, family, height) => {
  const most = Math.max(...(values ?? []))
  if (!values || !(most > 0)) return nothing
  const step = 100 / values.length
  return html`<svg display="block" width="100%" height=${height} viewBox="0 -4 100 24" preserveAspectRatio="none" aria-hidden="true">${values.map((value, i) => (value
    ? svg`<rect class="fill s-${family}" x=${(i * step).toFixed(2)} y=${(20 - Math.max(1, (20 * value) / most)).toFixed(1)} width=${(step * 0.75).toFixed(2)} height="20"></rect>` : nothing))}</svg>`
}

/** @param {string} name @param {any} value @param {string} about @param {string} to @param {number[]} [values] over the period @param {string} [family] */
const tile = (name, value, about, to, values, family = 'running') => html`<a class="tile" href=${to}>${name}<b>${value}</b>${about}${bars(values, family, 36)}</a>`

const sum = (rows, key) => rows.reduce((all, row) => all + (row[key] ?? 0), 0)

/** @param {any} stats @param {string} since @param {string} flow */
const tiles = (stats, since, flow) => {
  const of = (status) => href('runs', { since, flow, status })
  const steps = stats.steps ?? []
  const over = stats.series ?? {}
  const pace = stats.members_a_second
  const [hits, missed, begun, retries] = ['cached', 'missed', 'population', 'retries'].map((key) => sum(steps, key))
  return html`<div class="tiles">
    ${tile('Runs', number(stats.population), `${stats.flows?.failed ?? 0} failed`, of(''), over.made)}
    ${tile('Success', share(stats.success_rate), `of ${number((stats.flows?.completed ?? 0) + (stats.flows?.failed ?? 0) + (stats.flows?.lost ?? 0))} that ended`, of('failed,lost'), over.failed, 'failed')}
    ${tile('A run takes', span(stats.seconds?.p50) || '–', `half of ${number(stats.seconds?.population ?? 0)}; 95 of 100 take ${span(stats.seconds?.p95) || '–'}`, of('completed'), over.completed, 'completed')}
    ${tile('Members a second', pace ? number(pace < 10 ? +pace.toFixed(1) : Math.round(pace)) : '–', `while groups run; ${number(stats.members ?? 0)} ended`, of(''), over.members)}
    ${tile('Wait for a worker, p95', span(stats.queue_wait?.p95) || '–', `p50 ${span(stats.queue_wait?.p50) || '–'}, of ${number(stats.queue_wait?.population ?? 0)} runs`, of('queued'), over.queue_wait, 'waiting')}
    ${tile('Cache hits', number(hits), `${hits + missed ? share(hits / (hits + missed)) : '–'} of ${number(hits + missed)} looked up`, of(''), over.cached, 'completed')}
    ${tile('Retries', number(retries), `of ${number(begun)} steps that began`, of(''), over.retries, 'waiting')}
    ${tile('Lost and taken over', number(stats.takeovers ?? 0), `${stats.flows?.lost ?? 0} lost for good`, of('lost'), over.takeovers, 'lost')}
    ${tile('Store', bytes(stats.store_bytes) || '–', 'of all runs that are kept', href('runs', {}))}
  </div>`
}

/** @param {any} stats @param {string} since */
const slowest = (stats, since) => {
  const steps = (stats.steps ?? []).slice(0, 20)
  if (!steps.length) return nothing
  return html`<section class="card wide"><h2>Steps with the most time</h2>
    <table><thead><tr><th>Step</th><th class="optional">Flow</th><th class="num">Executions</th><th class="num">p50</th><th class="num">p95</th><th class="num">Failed</th><th class="optional">Times, from 1 ms to 12 h</th></tr></thead>
    <tbody>${steps.map((row) => html`<tr data-row>
      <td><a href=${href('runs', { flow: row.flow_name, since, status: row.failed ? 'failed' : '' })}>${row.step_name}</a></td><td class="soft optional">${row.flow_name}</td>
      <td class="num">${number(row.population)}</td><td class="num">${span(row.seconds?.p50)}</td><td class="num">${span(row.seconds?.p95)}</td>
      <td class="num ${row.failed ? 'bad' : ''}">${row.population ? share(row.failed / row.population) : ''}</td><td class="optional">${bars(row.distribution, 'running', 24)}</td></tr>`)}</tbody></table></section>`
}

export const view = (model, state) => {
  const { stats, period } = model
  const { flow = '' } = state.route.query
  return html`<main id="main" class="board" tabindex="-1" aria-busy=${stats ? 'false' : 'true'}>
    <div class="bar-of-tools"><h1>Stats</h1>
      <nav class="tabs" aria-label="Period">${Object.entries(PERIODS).map(([value, name]) => html`<a href=${turned({ period: value })} data-replace aria-current=${value === period ? 'page' : nothing}>${name}</a>`)}</nav>
      <select aria-label="Flow" @change=${(event) => turn({ flow: event.target.value }, { replace: true })}>
        <option value="" ?selected=${!flow}>all flows</option>${model.flows.map((each) => html`<option value=${each.name} ?selected=${each.name === flow}>${each.name}</option>`)}</select>
      <span class="right soft">Prometheus: <a href="metrics" data-plain target="_blank">/metrics</a></span></div>
    ${!stats ? nothing : html`${tiles(stats, period, flow)}
      <div class="chips" aria-label="Runs by state">${counted(stats.flows).map(([name, n]) => html`<a class="button chip s-${look(name).family}" href=${href('runs', { status: name, since: period, flow })}>${icon(look(name).icon)}${name} <b>${number(n)}</b></a>`)}</div>
      ${slowest(stats, period)}
      ${stats.looked_into < stats.population ? html`<p class="soft">Times and steps are of the newest ${number(stats.looked_into)} of ${number(stats.population)} runs.</p>` : nothing}`}
  </main>`
}
