// @ts-check
/** One run: head, and one of graph, timeline, steps and events; beside it what is chosen. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import '../parts/graph.js'
import { badge, icon, marks, progress } from '../parts/icons.js'
import { runHref, turn, turned } from '../router.js'
import { counted, isEnd, look, stateOf } from '../states.js'
import { barred, copy, part } from '../store.js'
import { clock, iso, span, took } from '../time.js'

const TABS = { graph: 'Graph', timeline: 'Timeline', steps: 'Steps', events: 'Events' }
const ACTS = /** @type {[string, string, string, string][]} */ ([
  ['pause', 'bars', 'Pause…', ''], ['resume', 'play', 'Resume…', ''], ['fork', 'fork', 'Fork…', ''], ['cancel', 'cross', 'Cancel…', 'danger'],
])

const acts = (model, state) => html`<span class="acts">${ACTS.map(([verb, image, name, kind]) => {
  const reason = refusal(model.run, verb, state)
  return html`<button class=${kind} ?disabled=${reason !== ''} title=${reason || nothing} @click=${() => model.plan(verb, verb === 'fork' ? model.forkable : {})}>${icon(image)}${name}</button>`
})}</span>`

/** Why an act is not allowed now; empty when it is. @param {any} run @param {string} verb @param {any} state */
export const refusal = (run, verb, state) => {
  const act = run.allowed_actions?.[verb]
  return barred() || (act === undefined || act?.is_allowed ? '' : act?.reason ?? 'Not in this state')
}

const head = (model, state) => {
  const { run, counts } = model
  const { view = 'graph' } = state.route.query
  return html`<header class="head">
    <div>
      <span class="row"><a href="runs">Runs</a> <span class="soft">/</span> <h1>${run.flow_name}</h1></span>
      <button class="plainly small mono" title="Copy the id of the run" @click=${() => copy(model.id)}>${model.id} ${icon('copy')}</button>
      ${badge(stateOf(run, counts))}
      <time class="soft" datetime=${iso(run.started_at)} title="since ${clock(run.started_at)}">${span(took(run.started_at, isEnd(run.status) ? run.completed_at : null))}</time>
      ${marks({ ...run, parent_flow_id: null })}
      ${run.parent_flow_id ? html`<span class="soft">from <a href=${runHref(run.parent_flow_id)}>${run.parent_flow_id.slice(0, 8)}${run.parent_step ? ` › ${run.parent_step}` : ''}</a></span>` : nothing}
      ${acts(model, state)}
    </div>
    <div>
      <nav class="tabs" aria-label="Views of the run">${Object.entries(TABS).map(([name, title]) =>
        html`<a href=${turned({ view: name === 'graph' ? null : name })} aria-current=${view === name ? 'page' : nothing}>${title}</a>`)}</nav>
      ${progress(counts)}
      <span class="chips" role="group" aria-label="Steps by state">${counted(counts).map(([name, n]) =>
        html`<button class="chip s-${look(name).family}" aria-pressed=${model.dimmed === name} @click=${() => model.dim(name)}>${icon(look(name).icon)}${name} <b>${n}</b></button>`)}</span>
      <input class="right" type="search" aria-label="Find a step" placeholder="Find a step…  /" .value=${model.search} @input=${(event) => model.find(event.target.value)}
        @keydown=${(event) => { if (event.key === 'Enter') model.nextHit() }}>
    </div>
    ${run.error && run.status !== 'completed' && !state.route.query.step ? html`<div class="note s-${run.status === 'failed' || run.status === 'lost' ? 'failed' : 'waiting'}">${run.error}</div>` : nothing}
  </header>`
}

const graph = (model, state) => {
  const drawn = model.graph
  if (!drawn) return html`<div class="sight" aria-busy="true"></div>`
  if (drawn.problem) return html`<div class="sight"><div class="nothing"><h2>The graph cannot be drawn</h2>${drawn.problem.message}</div></div>`
  if (!drawn.nodes.length) return html`<div class="sight"><div class="nothing"><h2>No graph yet</h2>It comes when the run builds it.</div></div>`
  const canvas = () => /** @type {any} */ (document.querySelector('flow-graph'))
  return html`<div class="sight">
    <flow-graph .graph=${drawn} .sight=${{ steps: model.steps, chosen: state.route.query.step ?? '', hits: model.hits }}
      @choose=${(event) => (event.detail ? model.choose(event.detail) : state.route.query.step && model.closeStep())}
      @enter=${() => { /** @type {HTMLElement | null} */ (document.querySelector('.drawer nav a'))?.focus() }}></flow-graph>
    <div class="tools">
      ${drawn.isTruncated ? html`<span class="note">Too large to draw each step</span>` : nothing}
      <button aria-label="Larger" @click=${() => canvas().zoom(1)}>+</button><button aria-label="Smaller" @click=${() => canvas().zoom(-1)}>−</button>
      <button @click=${() => canvas().fit()}>Fit</button>
      <button title="Direction of the graph" @click=${() => model.turnGraph(drawn.isRight ? 'down' : 'right')}>${drawn.isRight ? 'Down' : 'Right'}</button>
    </div>
  </div>`
}

const coming = () => html`<div class="nothing" aria-busy="true"></div>`

const VIEWS = /** @type {Record<string, (model: any, state: any) => any>} */ ({
  graph,
  timeline: (...about) => part('timeline', () => import('./timeline.js'), about, coming()),
  steps: (...about) => part('steps', () => import('./steps.js'), about, coming()),
  events: (...about) => part('events', () => import('./events.js'), about, coming()),
})

export const view = (model, state) => {
  if (!model.run) return html`<main id="main" class="board" tabindex="-1" aria-busy="true"></main>`
  const shown = VIEWS[state.route.query.view ?? 'graph'] ?? graph
  return html`<main id="main" tabindex="-1" aria-label="Run ${model.run.flow_name}">
    ${head(model, state)}
    <div class="stage">${shown(model, state)}${model.step ? part('drawer', () => import('../parts/drawer.js'), [model, state], coming()) : nothing}</div>
  </main>`
}

const canvasKey = (act) => () => {
  const picture = document.querySelector('flow-graph, flow-timeline')
  if (!picture) return false
  act(picture)
  return true
}

/** @type {Record<string, (model: any, event: KeyboardEvent) => any>} */
export const keys = {
  g: () => turn({ view: null }),
  t: () => turn({ view: 'timeline' }),
  s: () => turn({ view: 'steps' }),
  e: () => turn({ view: 'events' }),
  f: canvasKey((picture) => picture.fit()),
  '+': canvasKey((picture) => picture.zoom(1)),
  '-': canvasKey((picture) => picture.zoom(-1)),
  Escape: (model) => {
    if (!model.step) return false
    model.closeStep()
    requestAnimationFrame(() => { /** @type {HTMLElement | null} */ (document.querySelector('.keys, [data-row] a'))?.focus() })
    return true
  },
}
