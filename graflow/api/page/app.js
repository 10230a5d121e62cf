// @ts-check
/** The frame of the page: top bar, the view of this address, dialog, keys. */

import { html, nothing, render } from './vendor/lit-html/lit-html.js'
import { Problem, call, get } from './api.js'
import { keyPressed } from './keys.js'
import { icon } from './parts/icons.js'
import { go, start } from './router.js'
import { look } from './states.js'
import { part, store } from './store.js'
import { setNow, setZone } from './time.js'
import { view as sorry, titleOf } from './views/sorry.js'

/** Of each view: what loads and follows (its model), and what is drawn of it; both come when they are first needed. */
const VIEWS = {
  runs: () => Promise.all([import('./model/runs.js'), import('./views/runs.js')]),
  run: () => Promise.all([import('./model/run.js'), import('./views/run.js')]),
  feedback: () => Promise.all([import('./model/feedback.js'), import('./views/feedback.js')]),
  flow: () => Promise.all([import('./model/flow.js'), import('./views/flow.js')]),
  groups: () => Promise.all([import('./model/groups.js'), import('./views/groups.js')]),
  group: () => Promise.all([import('./model/group.js'), import('./views/group.js')]),
  workers: () => Promise.all([import('./model/workers.js'), import('./views/workers.js')]),
  stats: () => Promise.all([import('./model/stats.js'), import('./views/stats.js')]),
  login: () => Promise.all([import('./model/login.js'), import('./views/login.js')]),
}
const DIALOGS = {
  plan: () => import('./parts/plan.js'),
  start: () => import('./parts/start.js'),
  keys: () => import('./parts/help.js'),
}

const SOON = 1000
const AGAIN = 15_000

const { state } = store
/** @type {Record<string, any>} */
const loaded = {}

/** @param {import('./router.js').Route} route @param {import('./router.js').Route | null} before */
const arrive = async (route, before) => {
  if (before && state.model && before.view === route.view && before.id === route.id) {
    state.model.move?.(route)
    return
  }
  state.model?.close?.()
  store.set({ model: null, problem: null, dialog: null, link: 'off', drawn: null })
  const load = VIEWS[/** @type {keyof typeof VIEWS} */ (route.view)]
  if (!load) {
    store.set({ problem: new Problem(404, { title: 'There is no such page' }) })
    return
  }
  const [{ Model }, { view, keys }] = await (loaded[route.view] ??= load())
  if (state.route.view !== route.view || state.route.id !== route.id) return
  const model = new Model(store, fail)
  store.set({ model, drawn: { view, keys } })
  await model.open(state.route)
}

/** What a model says that cannot go on. */
const fail = (error) => {
  if (error?.name === 'AbortError') return
  if (error?.status === 401) {
    const here = location.href.slice(document.baseURI.length)
    if (state.route.view !== 'login') go(`login?next=${encodeURIComponent(here)}`, { replace: true })
    return
  }
  store.set({ problem: error })
}

const nav = (path, name, views, more = nothing) =>
  html`<a href=${path} aria-current=${views.includes(state.route.view) ? 'page' : nothing}>${name}${more}</a>`

const setTheme = () => {
  const dark = state.theme ? state.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
  document.documentElement.dataset.theme = dark ? 'dark' : 'light'
  dispatchEvent(new Event('theme'))
  store.set()
}

/** @param {string} name @param {string} value */
const keep = (name, value) => {
  try { localStorage.setItem(name, value) } catch { /* a browser that keeps nothing */ }
}

const otherTheme = () => {
  state.theme = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'
  keep('theme', state.theme)
  setTheme()
}

const otherZone = () => {
  state.zone = state.zone === 'utc' ? 'local' : 'utc'
  keep('zone', state.zone)
  setZone(state.zone)
  dispatchEvent(new Event('theme'))
  store.set()
}

const LINK = { connecting: 'connecting', live: 'live', off: '' }

const linkState = () => {
  const { link, silent } = state
  if (link === 'off') return nothing
  const word = link === 'stale' ? `no word for ${silent} s` : LINK[/** @type {keyof typeof LINK} */ (link)]
  return html`<span class="link" title="Whether changes arrive as they happen"><span class="dot ${link}"></span><span class="word-of">${word}</span></span>`
}

const logOut = async () => {
  await call('session', { method: 'DELETE' }).catch(() => {})
  location.assign(new URL('login', document.baseURI))
}

const top = () => html`
  <a class="skip" href="#main" data-plain @click=${(event) => { event.preventDefault(); document.getElementById('main')?.focus() }}>To the content</a>
  <header class="top">
    <a class="brand" href="runs"><img src="static/icon.svg" alt=""><span>graflow</span></a>
    <nav aria-label="Views">
      ${nav('runs', 'Runs', ['runs', 'run', 'flow'])}
      ${state.server?.features?.questions ? nav('feedback', 'Feedback', ['feedback'], state.asked ? html` <span class="count" aria-label="${state.asked} open">${state.asked}</span>` : nothing) : nothing}
      ${state.server?.features?.broker ? nav('groups', 'Groups', ['groups', 'group']) : nothing}
      ${nav('workers', 'Workers', ['workers'])} ${nav('stats', 'Stats', ['stats'])}
    </nav>
    <span class="right"></span>
    ${linkState()}
    <button class="plainly" @click=${otherZone} title="Times of this place, or UTC">${state.zone === 'utc' ? 'UTC' : 'Local'}</button>
    <button class="plainly" @click=${otherTheme} aria-label="Light or dark">${icon('theme')}</button>
    ${state.server?.auth === 'token' && state.route.view !== 'login' ? html`<button class="plainly" @click=${logOut}>Log out</button>` : nothing}
  </header>`

const body = () => {
  if (state.problem) return sorry(state.problem)
  if (state.drawn && state.model) return state.drawn.view(state.model, state)
  return html`<main id="main" class="board" tabindex="-1" aria-busy="true"><p class="hidden-text">Loading</p></main>`
}

const dialog = () => {
  if (!state.dialog) return nothing
  const { kind } = state.dialog
  return part(kind, DIALOGS[/** @type {keyof typeof DIALOGS} */ (kind)], [state.dialog, store], nothing)
}

/** @type {HTMLElement | null} */
let opener = null

/** A dialog has the focus while it is open, and gives it back. */
const showDialog = () => {
  const shown = document.querySelector('dialog')
  if (shown && !shown.open) {
    opener = /** @type {HTMLElement} */ (document.activeElement)
    shown.showModal()
  } else if (!shown && opener) {
    if (opener.isConnected) opener.focus()
    opener = null
  }
}

const FAVICON = (colour) =>
  `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="13" fill="${colour}"/></svg>`)}`

let titled = ''

const setTitle = () => {
  const { text, status } = state.problem ? { text: `${titleOf(state.problem)} · graflow`, status: '' } : (state.model?.title?.() ?? { text: 'graflow', status: '' })
  const key = `${text} ${status} ${document.documentElement.dataset.theme}`
  if (key === titled) return
  titled = key
  document.title = text
  const link = /** @type {HTMLLinkElement} */ (document.querySelector('link[rel=icon]'))
  const colour = status && getComputedStyle(document.documentElement).getPropertyValue(`--${look(status).family}`)
  const dot = colour ? FAVICON(colour) : 'static/icon.svg'
  if (link.getAttribute('href') !== dot) link.href = dot
}

const draw = () => {
  const root = /** @type {HTMLElement} */ (document.getElementById('page'))
  render(html`${top()}${body()}${dialog()}<div class="hidden-text" role="status" aria-live="polite">${state.said}</div>`, root)
  document.getElementById('page')?.classList.toggle('run', Boolean(state.drawn && !state.problem && ['run', 'group', 'feedback'].includes(state.route.view)))
  showDialog()
  setTitle()
}

/** How many questions are open, for the bar of all views: counted again when something happens, and now and then. */
const countQuestions = () => {
  if (!state.server?.features?.questions) return
  let timer = 0
  const count = async () => {
    timer = 0
    if (document.hidden || state.route.view === 'login') return
    const found = await get('questions/count').catch(() => null)
    if (found) store.set({ asked: found.count ? `${found.count}${found.is_more ? '+' : ''}` : '' })
  }
  addEventListener('news', () => { timer ||= setTimeout(count, SOON) })
  setInterval(count, AGAIN)
  count()
}

/** Ask the server what it is, again where it does not answer. */
const greet = async () => {
  try {
    const server = await get('server')
    setNow(server.now)
    store.set({ server })
    countQuestions()
  } catch (error) {
    if (/** @type {any} */ (error)?.status) fail(error)
    else setTimeout(greet, 2000)
  }
}

const begin = () => {
  try {
    state.theme = localStorage.getItem('theme') ?? ''
    state.zone = localStorage.getItem('zone') ?? 'local'
  } catch { /* a browser that keeps nothing */ }
  setZone(state.zone)
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', setTheme)
  store.draw = draw
  setTheme()
  draw()
  start(arrive)
  document.addEventListener('keydown', (event) => keyPressed(event, state))
  setInterval(() => { if (!document.hidden && state.model?.ticks) store.set() }, 1000)
  greet()
}

begin()
