// @ts-check
/** What is shown where a view cannot be: no such thing, the store away, no answer. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'

const TITLES = { 0: 'The server does not answer', 403: 'This needs another role', 404: 'There is no such thing here', 503: 'The store cannot be reached' }
const ADVICE = {
  0: 'It may be starting again. What runs goes on without this page.',
  403: 'Log in with a token whose role allows it.',
  404: 'The address may be cut off, or the run was removed: runs are some time after their end.',
  503: 'What runs goes on, and is recorded once the store answers. Workers and queues can still be seen.',
}

/** What kind of trouble it is. @param {any} problem */
export const titleOf = (problem) => TITLES[/** @type {keyof typeof TITLES} */ (problem.status)] ?? 'This did not work'

export const view = (problem) => html`
  <main id="main" class="plain" tabindex="-1">
    <h1>${titleOf(problem)}</h1>
    ${problem.message ? html`<p>${problem.message}</p>` : nothing}
    <p class="soft">${ADVICE[/** @type {keyof typeof ADVICE} */ (problem.status)] ?? nothing}</p>
    <p class="row"><button @click=${() => location.reload()}>Try again</button> <a class="button" href="runs">Runs</a></p>
  </main>`
