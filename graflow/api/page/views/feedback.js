// @ts-check
/** The inbox: what people are asked, and beside it the question that is chosen. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { repeat } from '../vendor/lit-html/directives/repeat.js'
import { SHOWN } from '../model/feedback.js'
import { icon, questionBadge, short } from '../parts/icons.js'
import { visible } from '../parts/trace.js'
import { runHref, turned } from '../router.js'
import { ago, iso, span, took, until } from '../time.js'

/** @param {any} row @param {string} chosen */
const line = (row, chosen) => html`<tr data-row class=${row.id === chosen ? 'at' : ''} aria-selected=${row.id === chosen}>
  <td>${questionBadge(row)}</td>
  <td class="asked"><a class="cut" href=${turned({ question: row.id })}>${visible(row.prompt.split('\n')[0])}${row.needs > 1 ? html`<span class="mark">${row.votes.length} of ${row.needs} answers</span>` : nothing}</a></td>
  <td class="optional"><a class="soft" href=${runHref(row.flow_id, { step: row.step })} title=${row.flow_id}>${row.flow_name ? `${row.flow_name} · ` : ''}${short(row.flow_id)} › ${row.step}</a></td>
  <td class="num soft"><time datetime=${iso(row.asked_at)} title=${iso(row.asked_at)}>${row.state === 'open' ? span(took(row.asked_at)) : ago(row.settled_at)}</time></td>
  <td class="num soft optional">${row.deadline && row.state === 'open' ? html`<time datetime=${iso(row.deadline)} title=${iso(row.deadline)}>${until(row.deadline)}</time>` : row.settled_by ?? nothing}</td>
</tr>`

const NONE = /** @type {Record<string, [string, string]>} */ ({
  open: ['Nobody is asked anything', 'Questions of steps are listed here from when they are asked until they are settled.'],
  mine: ['Nothing waits for you', 'What others are asked is under Open.'],
  settled: ['Nothing has been answered yet', 'Answers are listed here, with who gave them.'],
})

const list = (model) => {
  const { rows, shown, query } = model
  if (!rows.length) return html`<div class="nothing"><h2>${NONE[shown][0]}</h2>${NONE[shown][1]}</div>`
  return html`<table class="asks"><thead><tr><th>State</th><th>Question</th><th class="optional">Run › step</th><th class="num">${shown === 'settled' ? 'Settled' : 'Waits'}</th><th class="num optional">${shown === 'settled' ? 'By' : 'Deadline'}</th></tr></thead>
    <tbody>${repeat(rows, (row) => row.id, (row) => line(row, query.question))}</tbody></table>
    ${model.isCut ? html`<p class="nothing">Only the newest ${rows.length} open questions are listed.</p>` : nothing}
    ${model.next || query.cursor ? html`<div class="pages"><span class="right"></span>${query.cursor ? html`<a class="button small" href=${turned({ cursor: null })}>Newest</a>` : nothing}
      ${model.next ? html`<a class="button small" href=${turned({ cursor: model.next })}>Older</a>` : nothing}</div>` : nothing}`
}

const drawer = (model) => html`<aside class="drawer" aria-label="Question">
  <header><h2>Question</h2>${questionBadge(model.chosen.question)}
    <button class="plainly right" aria-label="Close" @click=${() => model.closeQuestion()}>${icon('cross')}</button></header>
  <div class="inside" tabindex="0" role="region" aria-label="What is asked">${model.part(model.chosen)}</div>
</aside>`

export const view = (model) => html`<main id="main" tabindex="-1" aria-busy=${model.rows ? 'false' : 'true'}>
  <header class="head"><div><h1>Feedback</h1>
    <nav class="tabs" aria-label="Which questions">${Object.entries(SHOWN).map(([value, name]) =>
      html`<a href=${turned({ show: value === 'open' ? null : value, cursor: null, question: null })} aria-current=${value === model.shown ? 'page' : nothing}>${name}</a>`)}</nav></div></header>
  <div class="stage"><div class="sight">${model.rows ? list(model) : nothing}</div>${model.chosen ? drawer(model) : nothing}</div>
</main>`

/** @type {Record<string, (model: any, event: KeyboardEvent) => any>} */
export const keys = {
  Escape: (model) => {
    if (!model.chosen) return false
    model.closeQuestion()
    requestAnimationFrame(() => { /** @type {HTMLElement | null} */ (document.querySelector('[data-row] a'))?.focus() })
    return true
  },
}
