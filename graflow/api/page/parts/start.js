// @ts-check
/** Starts a run: a form made from the inputs of the flow, and the same as commands. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { at, call, get, url } from '../api.js'
import { go, runHref } from '../router.js'
import { blame, fieldsOf, form, inputsOf } from './form.js'

/** @param {any} dialog @param {import('../store.js').Store} store */
const begin = async (dialog, store) => {
  dialog.flows = null
  try {
    dialog.flows = (await get('flows')).items
    await choose(dialog, store, dialog.flow || dialog.flows[0]?.name)
  } catch (error) {
    dialog.problem = error
  }
  store.set()
}

/** @param {any} dialog @param {import('../store.js').Store} store @param {string | undefined} name */
const choose = async (dialog, store, name) => {
  if (!name) return
  dialog.flow = name
  dialog.about = await get(at`flows/${name}`)
  dialog.fields = fieldsOf(dialog.about.inputs, dialog.inputs)
  store.set()
}

/** @param {any} dialog @param {import('../store.js').Store} store */
const submit = async (dialog, store) => {
  const { inputs, isRight } = inputsOf(dialog.fields, dialog.about.inputs)
  store.set()
  if (!isRight) return
  dialog.isBusy = true
  dialog.problem = null
  try {
    const body = { inputs, ...(dialog.id ? { flow_id: dialog.id } : {}) }
    const answer = await call(at`${dialog.flow}/execute-async`, { method: 'POST', body, headers: { 'Idempotency-Key': (dialog.key ??= crypto.randomUUID?.() ?? String(Math.random())) } })
    store.set({ dialog: null, said: `Started ${dialog.flow}` })
    go(runHref(answer.body.flow_id))
  } catch (error) {
    dialog.problem = error
    dialog.key = null
    blame(dialog.fields, /** @type {any} */ (error).body?.errors ?? [], 2) // behind `body` and `inputs`
  }
  dialog.isBusy = false
  store.set()
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`

/** The same as commands. */
const commands = (dialog) => {
  const inputs = inputsOf(structuredClone(dialog.fields), dialog.about.inputs).inputs
  const pairs = Object.entries(inputs).map(([key, value]) => `${key}=${quoted(typeof value === 'string' ? value : JSON.stringify(value))}`)
  const body = JSON.stringify({ inputs, ...(dialog.id ? { flow_id: dialog.id } : {}) })
  return [
    ['graflow flow run', dialog.flow, dialog.id ? `--id ${quoted(dialog.id)}` : '', ...pairs].filter(Boolean).join(' '),
    `curl -X POST ${url(at`${dialog.flow}/execute-async`)} -H 'Content-Type: application/json' -d ${quoted(body)}`,
  ]
}

/** @param {any} dialog @param {import('../store.js').Store} store */
export const view = (dialog, store) => {
  if (dialog.flows === undefined) begin(dialog, store)
  const { flows, fields, problem } = dialog
  return html`<dialog aria-labelledby="start-title" @close=${() => store.set({ dialog: null })}>
    <h2 id="start-title">Start a run</h2>
    ${flows && !flows.length ? html`<p>This server knows no flow; start it with <code>graflow serve --flows MODULE</code>.</p>` : nothing}
    <form @submit=${(event) => { event.preventDefault(); submit(dialog, store) }}>
      ${flows?.length ? html`<div class="field"><label for="start-flow">Flow</label>
        <select id="start-flow" @change=${(event) => choose(dialog, store, event.target.value)}>
          ${flows.map((each) => html`<option value=${each.name} ?selected=${each.name === dialog.flow}>${each.name}</option>`)}</select></div>` : nothing}
      ${dialog.about?.description ? html`<p class="soft">${dialog.about.description}</p>` : nothing}
      ${fields ? form(fields, () => store.set()) : nothing}
      ${fields ? html`<div class="field"><label for="start-id">id of the run (optional): the same id is never run twice</label>
        <input id="start-id" type="text" maxlength="200" .value=${dialog.id ?? ''} @input=${(event) => { dialog.id = event.target.value.trim(); store.set() }}></div>
        <details><summary>Same on the command line</summary>${commands(dialog).map((text) => html`<pre class="command">${text}</pre>`)}</details>` : nothing}
      ${problem ? html`<div class="box s-failed" role="alert">${problem.message}</div>` : nothing}
      <div class="ends"><button type="button" @click=${() => store.set({ dialog: null })}>Leave it</button>
        <button class="primary" ?disabled=${!fields || dialog.isBusy}>Start ${dialog.flow ?? ''}</button></div>
    </form>
  </dialog>`
}
