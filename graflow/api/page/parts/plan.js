// @ts-check
/** What an act would do, before it is done. The act is of this plan: if the run has moved on, the new plan is shown. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'
import { at, call } from '../api.js'
import { icon } from './icons.js'

const TITLES = /** @type {Record<string, string>} */ ({ resume: 'Resume', retry: 'Retry', fork: 'Fork', cancel: 'Cancel', pause: 'Pause' })
const DOWNSTREAM = /** @type {[string, string][]} */ ([['failed', 'only failed ones'], ['all', 'all'], ['none', 'none']])
const ON_CHANGE = /** @type {[string, string][]} */ ([['refuse', 'refuse'], ['reuse', 'keep what is not affected']])
const OPTIONS = /** @type {Record<string, any>} */ ({ retry: { downstream: 'failed', ask_again: false }, resume: { on_change: 'refuse' }, fork: {}, cancel: {}, pause: {} })

/** How a verb is asked for. @param {any} dialog @returns {{path: string, body: any}} */
const requestOf = ({ verb, flow, id, step, index, visit, options }) => {
  const which = { ...(visit ? { visit: Number(visit) } : {}), ...(index === undefined || verb !== 'retry' ? {} : { index: Number(index) }) }
  if (verb === 'retry') return { path: at`${flow}/retry/${id}/${step}`, body: { ...options, ...which } }
  if (verb === 'fork') return { path: at`${flow}/fork/${id}`, body: { from_step: step, ...which } }
  return { path: at`${flow}/${verb}/${id}`, body: options }
}

/** Ask for the plan. @param {any} dialog @param {import('../store.js').Store} store */
const ask = async (dialog, store) => {
  dialog.options ??= { ...OPTIONS[dialog.verb] }
  const { path, body } = requestOf(dialog)
  const mine = (dialog.asked = (dialog.asked ?? 0) + 1)
  try {
    const answer = await call(`${path}?dry_run=true`, { method: 'POST', body })
    if (mine !== dialog.asked) return
    dialog.plan = answer.body
    dialog.problem = null
  } catch (error) {
    dialog.problem = error
  }
  store.set()
}

/** @param {any} dialog @param {import('../store.js').Store} store */
const act = async (dialog, store) => {
  const { path, body } = requestOf(dialog)
  dialog.isBusy = true
  store.set()
  try {
    const headers = dialog.plan?.digest ? { 'If-Match': `"${dialog.plan.digest}"` } : {}
    const answer = await call(path, { method: 'POST', body, headers: /** @type {any} */ (headers) })
    store.set({ dialog: null, said: `${TITLES[dialog.verb]}: done` })
    dialog.onDone?.(answer.body)
    return
  } catch (error) {
    const { status, body: problem } = /** @type {any} */ (error)
    dialog.isBusy = false
    if (status === 412) {
      dialog.moved = true
      if (problem.plan) dialog.plan = problem.plan
      else await ask(dialog, store)
    } else dialog.problem = error
  }
  store.set()
}

/** Steps of a plan by what becomes of them. */
export const groupsOf = (plan) => {
  /** @type {Record<string, {steps: any[], reasons: Set<string>}>} */
  const groups = {}
  for (const step of plan.steps ?? []) {
    const kind = step.action === 'run' && step.visit === null ? 'first' : step.action
    groups[kind] ??= { steps: [], reasons: new Set() }
    groups[kind].steps.push(step)
    groups[kind].reasons.add(step.reason.split('\n')[0])
  }
  return groups
}

const LINES = /** @type {[string, string, string, string][]} */ ([
  ['reuse', 'flash', 'completed', 'keep their results'], ['adopt', 'open-ring', 'running', 'go on with the members that they have'], ['run', 'round-arrow', 'waiting', 'run again'],
  ['first', 'lines', 'pending', 'run for the first time'], ['skip', 'chevrons', 'cancelled', 'are left as they are'], ['cancel', 'struck-ring', 'cancelled', 'are stopped'],
])

const many = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`

const table = (plan) => {
  const groups = groupsOf(plan)
  const found = LINES.filter(([kind]) => groups[kind])
  if (!found.length) return html`<p class="soft">No step is concerned.</p>`
  return html`<table class="plan"><tbody>${found.map(([kind, image, family, what]) => {
    const { steps, reasons } = groups[kind]
    const why = [...reasons].slice(0, 2).join('; ')
    const names = steps.slice(0, 4).map((step) => step.step).join(', ')
    return html`<tr><td class="s-${family}"><span class="word">${icon(image)}</span></td><td><b>${steps.length}</b> ${steps.length === 1 ? 'step' : 'steps'} ${what}
      <div class="soft">${names}${steps.length > 4 ? ` and ${steps.length - 4} more` : ''}</div></td><td class="soft">${kind === 'first' ? '' : why}</td></tr>`
  })}</tbody></table>`
}

/** What the button says: the act. */
export const actOf = ({ verb, plan, step, index }) => {
  if (verb === 'cancel') return 'Cancel the run'
  if (verb === 'pause') return 'Pause the run'
  const groups = plan ? groupsOf(plan) : {}
  const again = groups.run?.steps.length ?? 0
  if (verb === 'fork') return 'Start the fork'
  if (index !== undefined && index !== null) return `Run member ${index} again`
  if (again) return `Run ${many(again, 'step')} again`
  return verb === 'retry' ? `Run ${step} again` : 'Go on'
}

const commandOf = ({ verb, id, step, index, options }) => {
  const more = [...Object.entries(options ?? {}).filter(([key, value]) => OPTIONS[verb][key] !== value).map(([key, value]) => `--${key.replace('_', '-')}${value === true ? '' : ` ${value}`}`)]
  if (index !== undefined && index !== null) more.push(`--index ${index}`)
  const target = verb === 'retry' ? `${id} ${step}` : verb === 'fork' && step ? `${id} ${step}` : id
  return ['graflow flow', verb, target, ...more].join(' ')
}

/** @param {any} dialog @param {import('../store.js').Store} store @param {string} name @param {string} title @param {[string, string][]} values */
const choice = (dialog, store, name, title, values) => html`<fieldset class="choice"><legend>${title}</legend>${values.map(([value, text]) =>
  html`<label><input type="radio" name=${name} value=${value} .checked=${dialog.options?.[name] === value}
    @change=${() => { dialog.options[name] = value; ask(dialog, store) }}> ${text}</label>`)}</fieldset>`

/** @param {any} dialog @param {import('../store.js').Store} store */
export const view = (dialog, store) => {
  if (!dialog.asked) ask(dialog, store)
  const { plan, problem, verb } = dialog
  const changes = plan?.changes ?? []
  const isReady = plan && !plan.refusal && !problem && !dialog.isBusy
  const about = dialog.step ? ` ${verb === 'fork' ? 'from ' : ''}${dialog.step}${dialog.index === undefined ? '' : ` ${dialog.index}`}` : ' the run'
  return html`<dialog aria-labelledby="plan-title" @close=${() => store.set({ dialog: null })}>
    <h2 id="plan-title">${TITLES[verb]}${about}</h2>
    ${dialog.moved ? html`<div class="box s-waiting" role="alert">The run has moved on since. Nothing was done; this is what would happen now:</div>`
      : html`<p class="soft">${verb === 'pause' ? 'Steps that run are finished, and no others begin until the run is resumed.' : 'Nothing has been changed yet. This is what would happen:'}</p>`}
    ${plan ? table(plan) : !problem ? html`<p class="soft" aria-busy="true">Looking…</p>` : nothing}
    ${changes.length ? html`<div class="box s-waiting"><b>The code is not what was recorded</b>${changes.map((each) => html`<div>${each}</div>`)}</div>` : nothing}
    ${plan?.refusal ? html`<div class="box s-failed" role="alert">${plan.refusal}</div>` : nothing}
    ${problem ? html`<div class="box s-failed" role="alert">${problem.message}</div>` : nothing}
    ${dialog.steps ? html`<div class="field"><label for="plan-from">First step that runs again</label><select id="plan-from" @change=${(event) => { dialog.step = event.target.value; ask(dialog, store) }}>
      ${dialog.steps.map((name) => html`<option ?selected=${name === dialog.step}>${name}</option>`)}</select></div>` : nothing}
    ${verb === 'retry' ? choice(dialog, store, 'downstream', 'Steps after it', DOWNSTREAM) : nothing}
    ${dialog.hasAsked ? html`<label class="field"><span><input type="checkbox" @change=${(event) => { dialog.options.ask_again = event.target.checked; ask(dialog, store) }}> Ask people again, instead of taking their answers</span></label>` : nothing}
    ${verb === 'resume' && (changes.length || dialog.options.on_change !== 'refuse') ? choice(dialog, store, 'on_change', 'Where the code has changed', ON_CHANGE) : nothing}
    <details><summary>Same on the command line</summary><pre class="command">${commandOf(dialog)}</pre></details>
    <form method="dialog" class="ends">
      <button>Leave as it is</button>
      <button type="button" class=${verb === 'cancel' ? 'danger' : 'primary'} ?disabled=${!isReady} @click=${() => act(dialog, store)}>${actOf(dialog)}</button>
    </form>
  </dialog>`
}
