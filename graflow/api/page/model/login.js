// @ts-check
/** Changes a token for a session; the token is kept nowhere. */

import { call } from '../api.js'

export class Model {
  /** @param {import('../store.js').Store} store */
  constructor(store) {
    this.store = store
    this.problem = ''
    this.isBusy = false
  }

  title() { return { text: 'Log in · graflow', status: '' } }

  open() {}

  /** @param {string} token */
  async enter(token) {
    this.isBusy = true
    this.store.set()
    try {
      await call('session', { method: 'POST', body: { token } })
      const base = new URL(document.baseURI)
      const next = new URL(this.store.state.route.query.next || 'runs', base)
      location.assign(next.href.startsWith(base.href) ? next : base)
    } catch (error) {
      this.problem = /** @type {Error} */ (error).message
      this.isBusy = false
      this.store.set({ said: this.problem })
    }
  }
}
