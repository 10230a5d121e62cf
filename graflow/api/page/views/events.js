// @ts-check
/** What happened to a run, and who did it: the journal, the newest first. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { repeat } from '../vendor/lit-html/directives/repeat.js'
import { turned } from '../router.js'
import { clock, iso } from '../time.js'

const MOST = 300

/** What a line says beside its kind, in one line. */
const said = (line) => {
  const { by, reason, error, ...rest } = line.data ?? {}
  const words = [by && `by ${by}`, reason, error, ...Object.entries(rest).map(([key, value]) => `${key} ${typeof value === 'string' ? value : JSON.stringify(value)}`)]
  const text = words.filter(Boolean).join(' · ')
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}

const row = (line) => html`<tr data-row>
  <td class="num soft">${line.seq}</td>
  <td class="num soft"><time datetime=${iso(line.at)} title=${iso(line.at)}>${clock(line.at)}</time></td>
  <td class="mono">${line.kind}</td>
  <td>${line.step ? html`<a href=${turned({ step: line.step, index: line.index ?? null, visit: line.visit > 1 ? line.visit : null, tab: null })}>${line.step}${line.index !== null && line.index !== undefined ? ` ${line.index}` : ''}</a>` : nothing}</td>
  <td class="soft optional">${said(line)}</td>
</tr>`

export const view = (model) => {
  const { lines } = model
  if (!lines) return html`<div class="sight" aria-busy="true"></div>`
  const found = lines.found
  return html`<div class="sight">
    <div class="pages"><input type="text" aria-label="Filter events" placeholder="Filter…" .value=${lines.text} @input=${(event) => lines.filter(event.target.value)}>
      <span class="soft">${found.length} of ${lines.items.length}${lines.isAll ? '' : ' read'}</span>
      ${lines.isAll ? nothing : html`<button class="small" @click=${() => lines.read()}>Read more</button>`}</div>
    ${lines.problem ? html`<p class="note s-failed">${lines.problem.message}</p>` : nothing}
    <table>
      <thead><tr><th class="num">#</th><th class="num">At</th><th>What</th><th>Step</th><th class="optional">More</th></tr></thead>
      <tbody>${repeat(found.slice(0, MOST), (line) => line.seq, row)}</tbody>
    </table>
    ${found.length > MOST ? html`<p class="nothing">The newest ${MOST} are shown; a filter finds others.</p>` : nothing}
  </div>`
}
