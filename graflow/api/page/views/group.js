// @ts-check
/** One group on workers. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { badge, icon, progress } from '../parts/icons.js'
import { membersTab } from '../parts/members.js'
import { problemBox } from '../parts/trace.js'
import { turned } from '../router.js'
import { done } from '../states.js'
import { clock, number, progressWords, span, took } from '../time.js'

const member = (model, state) => {
  const { member: row } = model
  return html`<aside class="drawer" aria-label="Member ${state.route.query.index}"><header><h2>Member ${state.route.query.index}</h2>${row.status ? badge(row.status) : nothing}
    <a class="button plainly right" aria-label="Close" href=${turned({ index: null })}>${icon('cross')}</a></header>
    <div class="inside" tabindex="0" role="region" aria-label="Overview"><dl class="facts"><dt>Worker</dt><dd>${row.worker ?? '–'}</dd><dt>Started</dt><dd>${clock(row.started_at)}</dd>
      <dt>Took</dt><dd>${span(took(row.started_at, row.completed_at))}</dd><dt>Attempts</dt><dd>${row.attempts ?? ''}</dd>
      ${row.progress ? html`<dt>Progress</dt><dd>${progressWords(row.progress)}</dd>` : nothing}</dl>
      ${row.error_data ? problemBox(row.error_data, '') : row.error ? html`<div class="box s-failed">${row.error}</div>` : nothing}</div></aside>`
}

export const view = (model, state) => {
  const { shown } = model
  if (!shown) return html`<main id="main" class="board" tabindex="-1" aria-busy="true"></main>`
  return html`<main id="main" tabindex="-1" aria-label="Group ${shown.name ?? model.id}">
    <header class="head"><div><span class="row"><a href="groups">Groups</a> <span class="soft">/</span> <h1>${shown.name ?? 'group'}</h1></span><span class="mono soft">${model.id}</span>
      ${badge(shown.status)}<span class="soft">${span(took(shown.started_at, shown.completed_at))}</span>
      ${progress(shown.counts ?? {}, shown.size)}<span class="soft">${number(done(shown.counts))} of ${number(shown.size)}</span></div></header>
    <div class="stage"><div class="sight column">${model.members ? membersTab(model) : nothing}</div>${model.member ? member(model, state) : nothing}</div>
  </main>`
}
