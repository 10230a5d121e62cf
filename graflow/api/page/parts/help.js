// @ts-check
/** The list of keys. */

import { html } from '../vendor/lit-html/lit-html.js'

const KEYS = [
  ['/', 'search'], ['j  k', 'next row, row before'], ['g  t  s  e', 'graph, timeline, steps, events of a run'],
  ['arrows', 'in the graph: along the edges and between siblings'], ['Home  End', 'in the graph: first and last step'],
  ['Enter', 'open the step'], ['f  +  −', 'fit, larger, smaller'], ['Esc', 'close'], ['?', 'this list'],
]

/** @param {any} _ @param {import('../store.js').Store} store */
export const view = (_, store) => html`
  <dialog aria-labelledby="keys-title" @close=${() => store.set({ dialog: null })}>
    <h2 id="keys-title">Keys</h2>
    <dl class="facts">${KEYS.map(([key, what]) => html`<dt><code>${key}</code></dt><dd>${what}</dd>`)}</dl>
    <form method="dialog" class="ends"><button>Close</button></form>
  </dialog>`
