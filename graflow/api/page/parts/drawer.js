// @ts-check
/** What is known of one step or member, beside the pictures. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { runHref, turned } from '../router.js'
import { isEnd } from '../states.js'
import { ago, bytes, clock, iso, progressWords, span, took } from '../time.js'
import { refusal } from '../views/run.js'
import { dataTab } from './data.js'
import { badge, icon, stateWord } from './icons.js'
import { membersTab } from './members.js'
import { problemBox } from './trace.js'

const TABS = /** @type {Record<string, string>} */ ({ overview: 'Overview', members: 'Members', data: 'Data', attempts: 'Attempts', logs: 'Logs' })

/** @param {string} name @param {any} value */
const fact = (name, value) => (value === null || value === undefined || value === '' ? nothing : html`<dt>${name}</dt><dd>${value}</dd>`)

/** @param {string[] | undefined} names */
const links = (names) => (names?.length
  ? names.slice(0, 12).map((name, i) => html`${i ? ', ' : ''}<a href=${turned({ step: name, index: null, visit: null, tab: null })}>${name}</a>`).concat(names.length > 12 ? [html` and ${names.length - 12} more`] : [])
  : nothing)

/** Where an outcome came from that was not made in this run. */
const sourceOf = (source) => {
  const { flow_id: id, step, why, at } = source
  return html`<div class="box">${why ?? 'Taken over'}${id ? html` from <a href=${runHref(id, { step })}>${id.slice(0, 8)}${step ? ` › ${step}` : ''}</a>` : nothing}${at ? html`, ${ago(at)}` : nothing}</div>`
}

const overview = (step, state) => {
  const { shown } = step
  const error = shown.error_data ?? (typeof shown.error === 'string' ? named(shown.error) : shown.error)
  const where = [shown.worker && `on ${shown.worker}`, shown.attempts && `attempt ${shown.attempts}`].filter(Boolean).join(', ')
  return html`
    ${step.asks ? step.asks.items.map((each) => html`<section class="box asks">${step.asks.view(each, { isInRun: true })}</section>`) : nothing}
    <dl class="facts">
      ${fact('Started', shown.started_at && html`<time datetime=${iso(shown.started_at)} title=${iso(shown.started_at)}>${clock(shown.started_at)}</time>`)}
      ${fact('Took', span(took(shown.started_at, shown.completed_at)))}
      ${fact('Waited for a worker', shown.queued_at && shown.started_at ? span(took(shown.queued_at, shown.started_at)) : null)}
      ${fact('Worker', shown.worker)} ${fact('Attempts', shown.attempts || null)}
      ${fact('Visits', shown.visits > 1 || shown.visit > 1 ? visitLinks(shown) : null)}
      ${fact('Progress', progressWords(shown.progress))}
      ${fact('Output', shown.output_size ? bytes(shown.output_size) : null)}
      ${fact('After', shown.after?.length ? links(shown.after) : null)} ${fact('Before', shown.before?.length ? links(shown.before) : null)}
    </dl>
    ${shown.source ? sourceOf(shown.source) : shown.cache?.why ? html`<div class="box">${shown.cache.why}</div>` : nothing}
    ${error ? problemBox(error, where) : nothing}
    ${repair(step, state)}`
}

/** `Type: message` as an error of two parts. @param {string} text */
const named = (text) => {
  const [, type, message] = /^([\w.]+): ([^]*)$/.exec(text) ?? [null, 'Error', text]
  return { type, message }
}

const visitLinks = (shown) => Array.from({ length: shown.visits ?? shown.visit }, (_, i) => html`<a href=${turned({ visit: i + 1 })}>${i + 1}</a> `)

const repair = (step, state) => {
  const { shown, model } = step
  const about = { step: step.name, index: step.index, visit: step.visit }
  const hasAsked = Boolean(step.asks)
  const hasBegun = isEnd(shown.status) || shown.status === 'reused' || shown.status === 'cached'
  if (!hasBegun) return nothing
  const [retry, fork] = [refusal(model.run, 'retry', state), refusal(model.run, 'fork', state)]
  return html`<div class="row">
    <button class=${shown.status === 'failed' ? 'primary' : ''} ?disabled=${retry !== ''} title=${retry || nothing} @click=${() => model.plan('retry', { ...about, hasAsked })}>Retry this ${step.index === undefined ? 'step' : 'member'}…</button>
    ${step.index === undefined ? html`<button ?disabled=${fork !== ''} title=${fork || nothing} @click=${() => model.plan('fork', about)}>Fork from here…</button>` : nothing}
  </div>`
}

const attempts = (step) => {
  const rows = step.shown.attempt_history ?? []
  if (!rows.length) return html`<p class="soft">${step.shown.attempts ? 'Of its attempts nothing is kept.' : 'It has not begun.'}</p>`
  return html`<table><thead><tr><th class="num">#</th><th>Worker</th><th class="num">Started</th><th class="num">Took</th><th>End</th></tr></thead>
    <tbody>${rows.slice().reverse().map((row) => html`<tr><td class="num">${row.number}</td><td class="mono">${row.worker ?? ''}</td>
      <td class="num"><time datetime=${iso(row.started_at)}>${clock(row.started_at)}</time></td><td class="num">${span(took(row.started_at, row.ended_at))}</td>
      <td>${row.error ? html`<span class="bad">${row.error}</span>` : row.ended_at ? stateWord('completed') : stateWord('running')}</td></tr>`)}</tbody></table>`
}

const inside = (step, state) => {
  if (step.problem && !step.row) return html`<div class="inside"><p class="soft">${step.problem.message}</p></div>`
  if (step.tab === 'members') return html`<div class="inside flat">${membersTab(step)}</div>`
  if (step.tab === 'logs') return html`<div class="inside flat">${step.logView ? step.logView(step) : nothing}</div>`
  const content = step.tab === 'data' ? dataTab(step) : step.tab === 'attempts' ? attempts(step) : overview(step, state)
  return html`<div class="inside" tabindex="0" role="region" aria-label=${TABS[step.tab]}>${content}</div>`
}

export const view = (model, state) => {
  const { step } = model
  const { shown } = step
  return html`<aside class="drawer" aria-label="Step ${step.name}">
    <header>
      ${step.index === undefined ? nothing : html`<a class="button small plainly" aria-label="Back to all members" href=${turned({ index: null, tab: 'members' })}>${icon('left')}</a>`}
      <h2>${step.name}${step.index === undefined ? nothing : html` <span class="soft">${step.index}</span>`}</h2>
      ${shown.status ? badge(shown.status) : nothing}
      <button class="plainly right" aria-label="Close" @click=${() => model.closeStep()}>${icon('cross')}</button>
    </header>
    <nav aria-label="About this step">${step.tabs.map((name) => html`<a href=${turned({ tab: name })} data-replace aria-current=${step.tab === name ? 'page' : nothing}>${TABS[name]}</a>`)}</nav>
    ${inside(step, state)}
  </aside>`
}
