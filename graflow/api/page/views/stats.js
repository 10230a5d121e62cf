// @ts-check
/** What came of many runs; each figure says of how many. */

import { html, nothing, svg } from '../vendor/lit-html/lit-html.js'
import { icon } from '../parts/icons.js'
import { PERIODS } from '../model/stats.js'
import { turn, turned } from '../router.js'
import { counted, look } from '../states.js'
import { bytes, number, span } from '../time.js'
import { href } from '../urls.js'

/** A row of bars. @param {(number | null)[]} values @param {string} family @param {string} [kind] */
export const spark = (values, family, kind = '') => {
  if (!values?.length) return nothing
  const most = Math.max(...values.map((value) => value ?? 0), 1e-9)
  const wide = 100 / values.length
  return html`<svg class="spark ${kind}" viewBox="0 0 100 36" preserveAspectRatio="none" aria-hidden="true">${values.map((value, i) => {
    const tall = value ? Math.max(1, (36 * value) / most) : 0
    return svg`<rect class="fill s-${family}" x=${i * wide} y=${36 - tall} width=${wide * 0.8} height=${tall}></rect>`
  })}</svg>`
}

const share = (part) => (part === null || part === undefined ? '–' : `${(100 * part).toFixed(part === 1 || part === 0 ? 0 : 1)} %`)

/** @param {string} name @param {any} value @param {string} about @param {string} to @param {any} picture */
const tile = (name, value, about, to, picture) => html`<a class="tile" href=${to}>${name}<b>${value}</b>${about}${picture}</a>`

const sum = (rows, key) => rows.reduce((all, row) => all + (row[key] ?? 0), 0)

/** @param {any} stats @param {string} since @param {string} flow */
const tiles = (stats, since, flow) => {
  const series = stats.series ?? {}
  const of = (status) => href('runs', { since, flow, status })
  const steps = stats.steps ?? []
  const [reused, begun, retries] = [sum(steps, 'cached') + sum(steps, 'reused'), sum(steps, 'population'), sum(steps, 'retries')]
  return html`<div class="tiles">
    ${tile('Runs', number(stats.population), `${stats.flows?.failed ?? 0} failed`, of(''), spark(series.runs, 'completed'))}
    ${tile('Success', share(stats.success_rate), `of ${number((stats.flows?.completed ?? 0) + (stats.flows?.failed ?? 0) + (stats.flows?.lost ?? 0))} that ended`, of('failed,lost'), spark(series.success, 'completed'))}
    ${tile('A run takes', span(stats.seconds?.p50) || '–', `half of ${number(stats.seconds?.population ?? 0)}; 95 of 100 take ${span(stats.seconds?.p95) || '–'}`, of('completed'), spark(series.seconds, 'running'))}
    ${tile('Wait for a worker, p95', span(stats.queue_wait?.p95) || '–', `p50 ${span(stats.queue_wait?.p50) || '–'}, of ${number(stats.queue_wait?.population ?? 0)} runs`, of('queued'), spark(series.queue_wait, 'waiting'))}
    ${stats.members_per_second === undefined ? nothing : tile('Members a second', stats.members_per_second === null ? '–' : number(Math.round(stats.members_per_second)), `of ${number(stats.members ?? 0)} members`, of(''), spark(series.members, 'running'))}
    ${tile('Cache hits', number(reused), `${begun + reused ? share(reused / (begun + reused)) : '–'} of ${number(begun + reused)} steps`, of(''), spark(series.cached, 'completed'))}
    ${tile('Retries', number(retries), `of ${number(begun)} steps that began`, of(''), spark(series.retries, 'waiting'))}
    ${tile('Lost and taken over', number(stats.takeovers ?? 0), `${stats.flows?.lost ?? 0} lost for good`, of('lost'), spark(series.takeovers, 'lost'))}
    ${stats.store_bytes ? tile('Store', bytes(stats.store_bytes), 'in all', of(''), nothing) : nothing}
  </div>`
}

/** @param {any} stats @param {string} since */
const slowest = (stats, since) => {
  const steps = (stats.steps ?? []).slice(0, 20)
  if (!steps.length) return nothing
  return html`<section class="card wide"><h2>Steps with the most time</h2>
    <table><thead><tr><th>Step</th><th class="optional">Flow</th><th class="num">Executions</th><th class="num">p50</th><th class="num">p95</th><th class="num">Failed</th><th class="optional">Distribution</th></tr></thead>
    <tbody>${steps.map((row) => html`<tr data-row>
      <td><a href=${href('runs', { flow: row.flow_name, since, status: row.failed ? 'failed' : '' })}>${row.step_name}</a></td><td class="soft optional">${row.flow_name}</td>
      <td class="num">${number(row.population)}</td><td class="num">${span(row.seconds?.p50)}</td><td class="num">${span(row.seconds?.p95)}</td>
      <td class="num ${row.failed ? 'bad' : ''}">${row.population ? share(row.failed / row.population) : ''}</td>
      <td class="optional">${spark(row.distribution, 'running', 'small')}</td></tr>`)}</tbody></table></section>`
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
