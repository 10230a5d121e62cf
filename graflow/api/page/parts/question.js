// @ts-check
/** A question: what is asked, who has answered so far, and the form for an answer. All of it is text. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { runHref } from '../router.js'
import { barred } from '../store.js'
import { ago, clock, iso, span, took, until } from '../time.js'
import { tree } from './data.js'
import { form, row } from './form.js'
import { icon, short } from './icons.js'
import { visible } from './trace.js'

/** What an answer says in a word or a line; null where it is more than that. @param {any} value */
const word = (value) => {
  if (typeof value === 'boolean') return value ? 'approved' : 'rejected'
  if (typeof value === 'number') return String(value)
  return typeof value === 'string' && value.length <= 200 ? visible(value) : null
}

/** When something happens that is to come, or did. @param {string | null} at */
const moment = (at) => html`<time datetime=${iso(at)} title=${iso(at)}>${clock(at)}</time>`

/** @param {any} value */
const told = (value) => word(value) ?? tree(value)

const atTheEnd = (question) => {
  if (question.on_deadline === 'default') return html`, then ${question.default === null ? 'it goes on without an answer' : html`${told(question.default)} holds`}`
  return question.on_deadline === 'escalate' ? ', then others are asked as well' : ', then its step fails'
}

/** @param {any} question @param {boolean} isInRun whether it is shown beside its step */
const facts = (question, isInRun) => html`<dl class="facts">
  ${isInRun ? nothing : html`<dt>Asked by</dt><dd><a href=${runHref(question.flow_id, { step: question.step })} title=${question.flow_id}>${question.flow_name ? `${question.flow_name} · ` : ''}${short(question.flow_id)} › ${question.step}</a></dd>`}
  <dt>Asked</dt><dd>${moment(question.asked_at)}, ${ago(question.asked_at)}</dd>
  ${question.of.length ? html`<dt>Asked of</dt><dd>${question.of.join(', ')}${question.needs > 1 ? `; ${question.needs} of them have to answer` : ''}</dd>`
    : question.needs > 1 ? html`<dt>Asked of</dt><dd>anybody; ${question.needs} people have to answer</dd>` : nothing}
  ${question.deadline ? html`<dt>Deadline</dt><dd>${moment(question.deadline)}${question.state === 'open' ? html`, ${until(question.deadline)}${atTheEnd(question)}` : nothing}</dd>` : nothing}
</dl>`

/** What it is about. @param {any} question */
const subject = ({ subject: about, feedback }) => {
  const data = about ?? (Object.keys(feedback?.metadata ?? {}).length ? feedback.metadata : null)
  return data === null ? nothing : html`<section><h3>About</h3>${tree(data)}</section>`
}

const votes = (question) => (question.votes.length && (question.state === 'open' || question.votes.length > 1) ? html`<section><h3>Answers so far</h3>
  <table><thead><tr><th>Who</th><th>Answer</th><th class="num">When</th></tr></thead><tbody>${question.votes.map((vote) => html`<tr>
    <td>${vote.person}${vote.verified ? nothing : html`<span class="mark" title="Nobody has made sure that it was they">says so</span>`}</td>
    <td>${told(vote.value)}${vote.reason ? html`<div class="soft">${visible(vote.reason)}</div>` : nothing}</td><td class="num soft">${ago(vote.at)}</td></tr>`)}</tbody></table></section>` : nothing)

/** What it has come to, and who decided that. @param {any} question @param {boolean} isBeaten */
const outcome = (question, isBeaten) => {
  const { state, value, settled_by: by, settled_at: when, reason, via } = question
  if (state === 'open') return nothing
  const said = word(value)
  const end = state === 'withdrawn' ? 'withdrawn' : state === 'expired' ? 'expired: nobody answered in time' : state === 'defaulted' ? 'nobody answered in time; the default holds' : 'answered'
  const who = by && by !== 'clock' ? ` by ${by}` : ''
  const isWell = state === 'answered' && value !== false
  return html`<div class="box s-${isBeaten ? 'waiting' : isWell ? 'completed' : state === 'answered' ? 'failed' : 'waiting'}" role=${isBeaten ? 'alert' : nothing}>
    ${isBeaten ? html`<div>Your answer came too late, and was not counted.</div>` : nothing}
    ${end}${who} ${ago(when)}${said !== null && state !== 'withdrawn' && state !== 'expired' ? html`: <b>${said}</b>` : nothing}
    ${reason ? html`<div>${visible(reason)}</div>` : nothing}
    ${via && state === 'answered' ? html`<div class="soft">${took(question.asked_at, when) === null ? nothing : `after ${span(took(question.asked_at, when))}, `}via ${via}</div>` : nothing}
  </div>
  ${said === null && value !== null && value !== undefined ? html`<section><h3>Answer</h3>${tree(value)}</section>` : nothing}`
}

const buttons = (answering) => {
  const isOff = answering.isBusy || barred() !== ''
  if (!answering.isBoolean) return html`<button class="primary" ?disabled=${isOff}>Answer</button>`
  return html`<button type="button" class="danger" ?disabled=${isOff} @click=${() => answering.answer(false)}>${icon('cross')}Reject</button>
    <button type="button" class="primary" ?disabled=${isOff} @click=${() => answering.answer(true)}>${icon('tick')}Approve</button>`
}

/** The field of a whole answer: its own label says what it is. */
const fields = (answering, changed) => {
  const { field, isBoolean } = answering
  if (isBoolean) return nothing
  if (field.kind === 'object') return html`${form(field.fields, changed)}${field.wrong ? html`<p class="bad">${field.wrong}</p>` : nothing}`
  if (field.kind === 'string') {
    return html`<div class="field"><label for="field-value">Your answer</label>
      <textarea id="field-value" rows="4" .value=${field.text} @input=${(event) => { field.text = event.target.value; changed() }}></textarea>
      ${field.wrong ? html`<span class="wrong">${field.wrong}</span>` : nothing}</div>`
  }
  return html`${row(field, changed, 'Your answer')}
    ${field.kind === 'json' ? html`<details><summary>What fits</summary><pre class="command">${JSON.stringify(answering.question.schema, null, 1)}</pre></details>` : nothing}`
}

/** @param {import('../model/answering.js').Answering} answering */
const answerForm = (answering) => {
  const { store, problem } = answering
  const changed = () => store.set()
  const input = (name) => (event) => { answering[name] = event.target.value }
  return html`<form class="answer" @submit=${(event) => { event.preventDefault(); if (!answering.isBoolean) answering.send() }}>
    ${fields(answering, changed)}
    <div class="field"><label for="answer-reason">Reason (optional)</label><textarea id="answer-reason" class="prose" rows="2" maxlength="16000" .value=${answering.reason} @input=${input('reason')}></textarea></div>
    ${answering.saysWho ? html`<div class="field"><label for="answer-by">Your name: this server asks nobody to log in</label>
      <input id="answer-by" type="text" maxlength="200" autocomplete="name" .value=${answering.by} @input=${input('by')}></div>` : nothing}
    ${problem ? html`<div class="box s-failed" role="alert">${problem.message}</div>` : nothing}
    ${barred() ? html`<p class="soft">${barred()}.</p>` : nothing}
    <div class="ends">${buttons(answering)}</div>
  </form>`
}

/** @param {import('../model/answering.js').Answering} answering @param {{isInRun?: boolean}} [options] */
export const questionPart = (answering, { isInRun = false } = {}) => {
  const { question } = answering
  return html`<p class="prompt">${visible(question.prompt)}</p>
    ${facts(question, isInRun)}
    ${subject(question)}
    ${votes(question)}
    ${outcome(question, answering.isBeaten)}
    ${answering.isOpen ? answerForm(answering) : nothing}`
}
