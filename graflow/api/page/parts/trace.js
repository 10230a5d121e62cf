// @ts-check
/** An error with its traceback, frames of libraries folded; nothing in it is anything but text. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { copy } from '../store.js'

const LIBRARY = /site-packages|dist-packages|lib\/python\d|<frozen|\/graflow(_celery)?\//

/**
 * Lines of a traceback in runs of the user's own frames and of those of libraries.
 * @param {string} text @returns {{isLibrary: boolean, lines: string[]}[]}
 */
export const framesOf = (text) => {
  /** @type {{isLibrary: boolean, lines: string[]}[]} */
  const runs = []
  let isLibrary = false
  for (const line of text.split('\n')) {
    if (/^\s*File "/.test(line)) isLibrary = LIBRARY.test(line)
    else if (!/^\s/.test(line)) isLibrary = false
    const last = runs.at(-1)
    if (last && last.isLibrary === isLibrary) last.lines.push(line)
    else runs.push({ isLibrary, lines: [line] })
  }
  return runs
}

/** Control characters and marks that turn the direction of text are shown as what they are. @param {string} text */
export const visible = (text) => text
  // eslint-disable-next-line no-control-regex
  .replace(/\u001b\[[0-9;]*m/g, '')
  .replace(/[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069\u200e\u200f]/g, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** @param {string | null | undefined} text */
export const traceback = (text) => {
  if (!text) return nothing
  const runs = framesOf(visible(text.trimEnd()))
  return html`<section>
    <div class="row"><h3>Traceback</h3><button class="plainly small" @click=${() => copy(text, 'the traceback')}>copy</button></div>
    <div class="trace">${runs.map(({ isLibrary, lines }) => (isLibrary && lines.length > 2
      ? html`<details><summary>${lines.filter((line) => /^\s*File "/.test(line)).length} frames of libraries</summary><pre class="library">${lines.join('\n')}</pre></details>`
      : html`<pre>${lines.join('\n')}</pre>`))}</div>
  </section>`
}

/** The errors that led to one. @param {any} error @returns {any[]} */
const causesOf = (error) => (error.cause ? [error.cause, ...causesOf(error.cause)] : [])

/** @param {any} error of type, message, traceback, cause @param {string} where */
export const problemBox = (error, where) => html`
  <div class="box s-failed"><b>${error.type ?? 'Error'}</b> ${visible(error.message ?? '')}${where ? html`<div class="soft">${where}</div>` : nothing}</div>
  ${causesOf(error).map((cause) => html`<div class="box"><span class="soft">because of</span> <b>${cause.type}</b> ${visible(cause.message ?? '')}</div>`)}
  ${traceback(error.traceback)}`
