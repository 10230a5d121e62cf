// @ts-check
/** When steps and members of a run ran; the view of steps has the same as a table. */

import { html } from '../vendor/lit-html/lit-html.js'
import '../parts/timeline.js'
import { turn } from '../router.js'

export const view = (model) => {
  const { timeline } = model
  if (!timeline?.whole && !timeline?.problem) return html`<div class="sight" aria-busy="true"></div>`
  if (!timeline.whole) return html`<div class="sight"><div class="nothing"><h2>The timeline cannot be read</h2>${timeline.problem.message}</div></div>`
  if (!timeline.rows.length) return html`<div class="sight"><div class="nothing"><h2>Nothing has begun yet</h2>Bars come when the first step starts.</div></div>`
  const canvas = () => /** @type {any} */ (document.querySelector('flow-timeline'))
  const turnTo = (by) => () => turn({ by: by === 'step' ? null : by }, { replace: true })
  return html`<div class="sight">
    <flow-timeline role="img" aria-label="Timeline of ${timeline.rows.length} ${timeline.by}s; the view Steps has the times as a table" .about=${{ model: timeline }}></flow-timeline>
    <div class="tools" role="group" aria-label="Timeline">
      <button aria-pressed=${timeline.by === 'step'} @click=${turnTo('step')}>By step</button><button aria-pressed=${timeline.by === 'worker'} @click=${turnTo('worker')}>By worker</button>
      <button aria-label="Larger" @click=${() => canvas().zoom(1)}>+</button><button aria-label="Smaller" @click=${() => canvas().zoom(-1)}>−</button>
      <button @click=${() => canvas().fit()}>Fit</button>
    </div>
  </div>`
}
