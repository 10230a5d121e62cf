// @ts-check
/** One run: its summary, steps and graph, followed live; what is chosen in it stands in the address. */

import { at, get, url } from '../api.js'
import { Live } from '../live.js'
import { go, runHref, turn } from '../router.js'
import { isEnd } from '../states.js'
import { apply, countsOf, layoutOf, rowsOf } from './answers.js'

/** What the address says of the parts of a step, of which another one has its own. */
const UNSAID = { member_status: null, search: null, level: null, find: null, line: null }

export class Model {
  /** @param {import('../store.js').Store} store @param {(error: any) => void} fail */
  constructor(store, fail) {
    this.store = store
    this.fail = fail
    this.id = ''
    /** @type {import('./answers.js').Known | null} */
    this.known = null
    this.graph = null
    this.direction = ''
    this.search = ''
    this.dimmed = '' // the state whose steps are looked for
    /** @type {any} what the drawer shows; its model comes with the first step that is opened */
    this.step = null
    this.lines = null // of the journal
    /** @type {any} */
    this.timeline = null
    /** @type {Live | null} */
    this.live = null
    /** @type {number[]} what has been applied, in order; kept short */
    this.applied = []
    this.isOld = false // it had ended when it was read
    this.refreshed = 0
    this.isClosed = false
  }

  get run() { return this.known?.run }

  get steps() { return this.known?.steps ?? new Map() }

  get path() { return at`${this.run.flow_name}/flows/${this.id}` }

  get ticks() { return Boolean(this.run && !isEnd(this.run.status)) }

  get counts() { return countsOf(this.steps) }

  title() {
    if (!this.run) return { text: 'graflow', status: '' }
    const sign = { completed: '✓', failed: '✕', lost: '?', cancelled: '⊘', running: '◌', paused: '‖' }[/** @type {string} */ (this.run.status)] ?? '○'
    return { text: `${sign} ${this.run.flow_name} · ${this.id.slice(0, 8)}`, status: this.run.status }
  }

  /** @param {import('../router.js').Route} route */
  async open(route) {
    this.id = route.id
    await this.load()
    if (this.known) await this.move(route)
  }

  close() {
    this.isClosed = true
    this.live?.close()
    this.step?.close()
    this.timeline?.close()
  }

  /** Read all again, and follow from there. */
  async load() {
    try {
      const run = await get(at`runs/${this.id}`)
      if (this.isClosed) return
      this.known = { run, steps: this.steps, seq: run.cursor }
      this.isOld = isEnd(run.status)
      this.store.set({ problem: null })
      await Promise.all([this.#readSteps(), this.readGraph()])
      this.#follow()
      this.timeline?.changed()
    } catch (error) {
      this.fail(error)
    }
  }

  /** Steps as they are now, at least as new as the cursor, since they are read after it. */
  async #readSteps() {
    const found = await get(`${this.path}/steps`)
    if (!this.known) return
    this.known.steps = new Map(rowsOf(found.steps).map((row) => [row.step, row]))
    this.store.set()
  }

  async readGraph() {
    const wanted = this.direction ? `?direction=${this.direction}` : ''
    this.graph = await get(`${this.path}/graph${wanted}`).then(layoutOf).catch((error) => ({ problem: error }))
    this.store.set()
  }

  #follow() {
    this.live?.close()
    if (this.isClosed || !this.known) return
    this.live = new Live(url(`${this.path}/events`).href, {
      after: this.known.seq,
      onEvent: (kind, data) => this.#take(kind, data),
      onState: (link, silent) => this.store.set({ link, silent }),
      onRefused: () => this.load(),
    })
  }

  /** @param {string} kind @param {any} data */
  #take(kind, data) {
    if (kind === 'change' && this.known) {
      const before = this.known.run.status
      const { ended, groups } = apply(this.known, data)
      if (this.known.run.status !== before) this.#refresh()
      this.applied = [...this.applied.slice(-999), data.seq]
      this.#say(ended)
      this.step?.changed(data, groups)
      this.lines?.grow()
      this.timeline?.changed()
    } else if (kind === 'graph') this.readGraph()
    else if (kind === 'log') this.step?.log?.grow()
    else if (kind === 'reset') this.load()
    else if (kind === 'end') this.#ended(data)
    this.store.set()
  }

  /** Ends and failures are spoken, not every change. @param {string[]} failed */
  #say(failed) {
    if (failed.length) this.store.set({ said: `${failed.slice(0, 3).join(', ')} failed` })
  }

  async #ended(data) {
    this.store.set({ said: `The run is ${data.status}` })
    if (!this.isOld) await this.#refresh()
  }

  /** What a change does not say: times, the error, which acts are allowed now. An answer that a later one overtook is none. */
  async #refresh() {
    const mine = ++this.refreshed
    const run = await get(at`runs/${this.id}`).catch(() => null)
    if (!run || !this.known || this.isClosed || mine !== this.refreshed) return
    this.known.run = run
    await this.#readSteps().catch(() => {})
    this.timeline?.changed()
    this.store.set()
  }

  /** An act was asked for and accepted: look what it did, and follow on. */
  async acted() {
    await this.load()
    this.step?.load()
  }

  /** @param {import('../router.js').Route} route */
  async move(route) {
    const { step, index, visit, view = 'graph' } = route.query
    if (!this.known) return
    if (view === 'events' && !this.lines) this.lines = new (await import('./lines.js')).Lines(this)
    if (view === 'timeline' && !this.timeline) this.timeline = new (await import('./timeline.js')).Timeline(this)
    this.timeline?.turned()
    if (!step) {
      this.step?.close()
      this.step = null
    } else if (!this.step?.is(step, index, visit)) {
      const { Step } = await import('./step.js')
      this.step?.close()
      this.step = new Step(this, step, index, visit)
      this.step.load()
    } else this.step.turned()
    this.store.set()
  }

  /** @param {string} name */
  choose(name) {
    const { query } = this.store.state.route
    if (query.step === name) return
    turn({ step: name, index: null, visit: null, attempt: null, tab: null, ...UNSAID }, { replace: Boolean(query.step) })
  }

  closeStep() {
    turn({ step: null, index: null, visit: null, attempt: null, tab: null, ...UNSAID })
  }

  /** Steps that are looked for, in the order of the graph; null when all are shown alike. @returns {string[] | null} */
  get hits() {
    const text = this.search.trim().toLowerCase()
    if (!text && !this.dimmed) return null
    return [...this.steps.values()]
      .filter((row) => (!text || row.step.toLowerCase().includes(text)) && (!this.dimmed || row.status === this.dimmed))
      .map((row) => row.step)
  }

  /** @param {string} text */
  find(text) {
    this.search = text
    this.store.set()
  }

  /** @param {string} state */
  dim(state) {
    this.dimmed = this.dimmed === state ? '' : state
    this.store.set()
  }

  nextHit() {
    const hits = this.hits ?? []
    if (!hits.length) return
    const here = hits.indexOf(this.store.state.route.query.step)
    this.choose(hits[(here + 1) % hits.length])
  }

  /** @param {'right' | 'down'} direction */
  turnGraph(direction) {
    this.direction = direction
    this.readGraph()
  }

  /** From which steps a new run can begin: those that have begun; the first that went wrong is proposed. */
  get forkable() {
    const rows = [...this.steps.values()].filter((row) => row.status !== 'pending')
    return { steps: rows.map((row) => row.step), step: (rows.find((row) => row.status === 'failed') ?? rows[0])?.step }
  }

  /** Ask for the plan of an act, and show it. @param {string} verb @param {Record<string, any>} [about] */
  plan(verb, about = {}) {
    this.store.set({ dialog: { kind: 'plan', verb, flow: this.run.flow_name, id: this.id, ...about, onDone: (answer) => this.#done(verb, answer) } })
  }

  /** @param {string} verb @param {any} answer */
  #done(verb, answer) {
    if (verb === 'fork' && answer?.flow_id && answer.flow_id !== this.id) go(runHref(answer.flow_id))
    else this.acted()
  }
}
