// @ts-check
/** One registered flow. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { badge, icon, progress, short } from '../parts/icons.js'
import { resolved, kindOf } from '../parts/form.js'
import { href, runHref } from '../router.js'
import { stateOf } from '../states.js'
import { barred } from '../store.js'
import { clock, iso, span, took } from '../time.js'

const inputs = (schema) => {
  const entries = Object.entries(schema?.properties ?? {})
  if (!entries.length) return html`<p class="soft">It takes no inputs.</p>`
  return html`<table><thead><tr><th>Input</th><th>Kind</th><th>If not given</th><th class="optional">About</th></tr></thead><tbody>${entries.map(([name, raw]) => {
    const own = resolved(raw, schema)
    const isRequired = (schema.required ?? []).includes(name)
    return html`<tr><td class="mono">${name}</td><td>${own.type ?? kindOf(own, schema)}</td><td class="mono soft">${isRequired ? 'needed' : JSON.stringify(own.default ?? null)}</td><td class="soft optional">${own.description ?? ''}</td></tr>`
  })}</tbody></table>`
}

export const view = (model, state) => html`<main id="main" class="board" tabindex="-1">
  <div class="bar-of-tools"><span class="row"><a href="runs">Runs</a> <span class="soft">/</span> <h1>${state.route.id}</h1></span>
    <span class="soft">${model.about?.description?.split('\n')[0] ?? ''}</span>
    ${model.about ? html`<button class="primary right" ?disabled=${barred() !== ''} title=${barred() || nothing} @click=${() => model.store.set({ dialog: { kind: 'start', flow: state.route.id } })}>${icon('plus')}Start a run</button>` : nothing}</div>
  ${model.about === null ? html`<p class="note">This server does not have the code of this flow, and can start none.</p>`
    : html`<section class="card wide"><h2>Inputs</h2>${inputs(model.about.inputs)}</section>`}
  <section class="card wide"><h2>Last runs</h2>
    ${model.rows.length ? html`<table><tbody>${model.rows.map((row) => html`<tr data-row><td>${badge(stateOf(row))}</td><td class="mono"><a href=${runHref(row.flow_id)}>${short(row.flow_id)}</a></td>
      <td class="optional">${progress(row.counts)}</td><td class="num soft"><time datetime=${iso(row.started_at)}>${clock(row.started_at)}</time></td><td class="num">${span(took(row.started_at, row.completed_at))}</td></tr>`)}</tbody></table>`
      : html`<p class="nothing">It has not run yet.</p>`}
    <p class="pages"><a href=${href('runs', { flow: state.route.id })}>All its runs</a> <a href=${href('stats', { flow: state.route.id })}>Stats</a></p></section>
</main>`
