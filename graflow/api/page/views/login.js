// @ts-check
/** The way in, where a token is needed. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'

export const view = (model) => html`<main id="main" class="login card" tabindex="-1">
  <form @submit=${(event) => { event.preventDefault(); model.enter(event.target.elements.token.value) }}>
    <h1>Log in</h1>
    <p class="soft">With a token of this server: <code>GRAFLOW_API_TOKEN</code>, or a line of its <code>--token-file</code>.</p>
    <div class="field"><label for="token">Token</label><input id="token" name="token" type="password" autocomplete="current-password" required></div>
    ${model.problem ? html`<div class="box s-failed" role="alert">${model.problem}</div>` : nothing}
    <div class="ends"><button class="primary" ?disabled=${model.isBusy}>Log in</button></div>
  </form>
</main>`
