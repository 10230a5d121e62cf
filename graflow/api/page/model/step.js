// @ts-check
/** The step, or member of a group, that the drawer shows. */

import { at, get } from '../api.js'
import { href, turn } from '../router.js'
import { MemberPages } from './pages.js'

const AGAIN = 500

export class Step {
  /** @param {any} model @param {string} name @param {string | undefined} index @param {string | undefined} visit */
  constructor(model, name, index, visit) {
    this.model = model
    this.name = name
    this.index = index
    this.visit = visit
    this.detail = null
    this.problem = null
    /** @type {Record<string, any>} of payloads, by part */
    this.data = {}
    /** @type {MemberPages | null} */
    this.members = null
    /** @type {any} questions of this step with what draws them; both come with the first */
    this.asks = null
    /** @type {any} the log with what draws it; both come when it is first looked at */
    this.log = null
    this.logView = null
    /** @type {any} what workers run of its group */
    this.running = null
    this.timer = 0
    this.isClosed = false
    this.isAsking = false
  }

  /** @param {string} name @param {string | undefined} index @param {string | undefined} visit */
  is(name, index, visit) {
    return this.name === name && this.index === index && this.visit === visit
  }

  get query() { return this.model.store.state.route.query }

  get path() { return `${this.model.path}/${at`steps/${this.name}`}` }

  /** What is known of it from the run: always as new as the stream. */
  get row() {
    return this.index === undefined && !this.visit ? this.model.steps.get(this.name) : null
  }

  /** The newest of what is known: the row changes with the stream, the detail has more. */
  get shown() {
    const shown = { ...this.detail, ...this.row }
    return { ...shown, ...this.running?.over(shown) }
  }

  get tab() {
    const { tab } = this.query
    const tabs = this.tabs
    return tabs.includes(tab) ? tab : this.size && !this.index ? 'members' : 'overview'
  }

  get size() { return this.index === undefined ? this.shown.size ?? 0 : 0 }

  get tabs() {
    return ['overview', this.size ? 'members' : '', 'data', 'attempts', this.#has('logs') ? 'logs' : ''].filter(Boolean)
  }

  /** Whether the server has something; as long as it has not said, it is asked for. @param {string} feature */
  #has(feature) {
    return this.model.store.state.server?.features?.[feature] ?? true
  }

  close() {
    this.isClosed = true
    clearTimeout(this.timer)
    this.members?.close()
    this.running?.close()
  }

  async load() {
    this.isAsking = true
    const path = this.index === undefined ? href(this.path, { visit: this.visit }) : href(`${this.path}/members/${this.index}`, { visit: this.visit })
    try {
      this.detail = await get(path)
      this.problem = null
    } catch (error) {
      this.problem = error
    }
    this.isAsking = false
    if (this.isClosed) return
    this.turned()
    this.#readQuestions()
    if (this.model.steps.get(this.name)?.size && this.#has('broker') && !this.running) {
      const { Running } = await import('./running.js')
      if (!this.isClosed) this.running ??= new Running(this)
    }
    this.model.store.set()
  }

  /** The address says another tab or filter. */
  turned() {
    if (this.tab === 'members') {
      this.members ??= new MemberPages(this)
      this.members.turned()
    }
    if (this.tab === 'data') this.#readData()
    if (this.tab === 'logs') this.#readLog()
  }

  async #readLog() {
    const [{ Log }, { view }] = await Promise.all([import('./log.js'), import('../parts/log.js')])
    this.log ??= new Log(this)
    this.logView = view
    this.log.turned()
    this.model.store.set()
  }

  /** @param {any} change @param {string[]} groups */
  changed(change, groups) {
    const isAbout = (change.steps ?? []).some((step) => step.step === this.name)
    const isMoved = groups.includes(this.name)
    if (isAbout || isMoved) this.log?.grow()
    if (isMoved) this.members?.stale(Object.keys(change.groups[this.name].strip ?? {}).map(Number))
    if (!isAbout && !(isMoved && this.index !== undefined)) return
    this.data = {}
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.load() }, AGAIN)
  }

  /** What this step has asked people, and asks. */
  async #readQuestions() {
    const { store, id } = this.model
    if (this.index !== undefined || !this.#has('questions')) return
    const found = await get(href('questions', { flow: id, state: 'all', limit: 200 })).catch(() => null)
    const mine = (found?.items ?? []).filter((each) => each.step === this.name && (!this.visit || each.visit === Number(this.visit)))
    if (!mine.length || this.isClosed) return
    const [{ Answering }, { questionPart }] = await Promise.all([import('./answering.js'), import('../parts/question.js')])
    const known = new Map((this.asks?.items ?? []).map((each) => [each.question.id, each]))
    const items = mine.map((question) => known.get(question.id) ?? new Answering(question, store, () => this.load()))
    for (const [i, each] of items.entries()) {
      each.update(mine[i])
      if (!known.has(each.question.id)) each.look()
    }
    this.asks = { items, view: questionPart }
    store.set()
  }

  #readData() {
    for (const part of ['inputs', 'outputs']) {
      if (this.data[part]) continue
      this.data[part] = { isBusy: true }
      get(href(`${this.path}/payload/${part}`, { index: this.index, visit: this.visit }))
        .then((found) => { this.data[part] = found })
        .catch((error) => { this.data[part] = { problem: error } })
        .finally(() => this.model.store.set())
    }
  }

  /** Where a part can be downloaded. @param {string} part */
  download(part) {
    return `api/v1/${href(`${this.path}/payload/${part}`, { index: this.index, visit: this.visit, download: 1 })}`
  }

  /** @param {number} index */
  openMember(index) {
    turn({ index, tab: 'overview', attempt: null })
  }
}
