// @ts-check
/** Inputs and outputs as a tree; text is text, whatever is in it. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { bytes } from '../time.js'

const DEEP = 3 // levels that are open
const LONG = 100 // entries that are shown at once

const kindOf = (value) => (value === null ? 'null' : Array.isArray(value) ? 'list' : typeof value)

const plain = (value) => (typeof value === 'string' ? html`<span class="text">${value}</span>` : html`<span class="value">${String(value)}</span>`)

/** @param {any} value @param {string | number | null} key @param {number} level @returns {any} */
const node = (value, key, level) => {
  const kind = kindOf(value)
  const label = key === null ? nothing : html`<span class="key">${key}</span>: `
  if (kind !== 'list' && kind !== 'object') return html`<li>${label}${plain(value)}</li>`
  const entries = Object.entries(value)
  const size = kind === 'list' ? `[${entries.length}]` : `{${entries.length}}`
  if (!entries.length) return html`<li>${label}<span class="soft">${size}</span></li>`
  return html`<li><details ?open=${level < DEEP && entries.length <= LONG}>
    <summary>${label}<span class="soft">${size}</span></summary>
    <ul>${entries.slice(0, LONG).map(([name, each]) => node(each, kind === 'list' ? Number(name) : name, level + 1))}
      ${entries.length > LONG ? html`<li class="soft">and ${entries.length - LONG} more: download to see them</li>` : nothing}</ul>
  </details></li>`
}

export const tree = (value) => html`<div class="tree"><ul>${node(value, null, 0)}</ul></div>`

/** One payload. @param {string} title @param {any} part @param {string} download */
export const payload = (title, part, download) => html`<section>
  <div class="row"><h3>${title}</h3>${part?.size ? html`<span class="soft">${bytes(part.size)}</span>` : nothing}
    ${part?.size ? html`<a class="button small right" href=${download} download data-plain>Download</a>` : nothing}</div>
  ${!part || part.isBusy ? html`<p class="soft" aria-busy="true">…</p>`
    : part.problem ? html`<p class="soft">${part.problem.message}</p>`
      : part.preview === undefined && part.text === undefined ? html`<p class="soft">nothing</p>`
        : part.text !== undefined && part.text !== null ? html`<pre class="trace">${part.text}</pre>` : tree(part.preview)}
  ${part?.truncated ? html`<p class="soft">Only the beginning is shown.</p>` : nothing}
</section>`

export const dataTab = (step) => html`${payload('Inputs', step.data.inputs, step.download('inputs'))}${payload('Output', step.data.outputs, step.download('outputs'))}`
