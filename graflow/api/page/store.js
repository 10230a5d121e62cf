// @ts-check
/** The one place where state is. Views are drawn from it, at most once a frame, however often it changes. */

export class Store {
  /** @param {Record<string, any>} state */
  constructor(state) {
    this.state = state
    /** @type {(() => void) | null} */
    this.draw = null
    this.pending = false
  }

  /** Change it and have it drawn. @param {Record<string, any>} [patch] */
  set(patch) {
    if (patch) Object.assign(this.state, patch)
    if (this.pending || !this.draw) return
    this.pending = true
    requestAnimationFrame(() => {
      this.pending = false
      this.draw?.()
    })
  }
}

export const store = new Store({
  route: { view: 'runs', id: '', query: {} },
  server: null,
  theme: '',
  zone: 'local',
  link: 'off', // of the stream of events: off, connecting, live, stale
  silent: 0, // seconds without a word, when stale
  asked: '', // how many questions are open, in the bar
  said: '', // what the live region speaks
  model: null, // what the view shows
  dialog: null, // what is asked of the user
  problem: null, // why the view cannot be shown
})

/** Why who looks may change nothing; empty for those who may. */
export const barred = () => (store.state.server?.role === 'view' ? 'This login may view and change nothing' : '')

/** Modules that come when they are first needed. @type {Record<string, any>} */
const parts = {}

/** What one of them draws; something else until it is there. @param {string} name @param {() => Promise<any>} load @param {any[]} about @param {any} [meanwhile] */
export const part = (name, load, about, meanwhile) => {
  parts[name] ??= load().then((found) => { parts[name] = found; store.set() })
  return parts[name].view?.(...about) ?? meanwhile
}

/** @param {string} text @param {string} [what] */
export const copy = async (text, what = text) => {
  await navigator.clipboard?.writeText(text).catch(() => {})
  store.set({ said: `Copied ${what}` })
}
