// @ts-check
/**
 * A stream of events that is known to be alive: heartbeats are events, two that are missed mean a new connection from
 * the last position. A hidden tab has none (a browser opens six connections to a host in all), and goes on when shown.
 */

import { setNow } from './time.js'

const SILENCE = 31_000
const LONGEST = 8_000
const EVENTS = ['change', 'graph', 'question', 'action', 'log', 'reset', 'end']

export class Live {
  /**
   * @param {string} address
   * @param {{after: number | string | null, onEvent: (kind: string, data: any, id: string) => void, onState: (state: string, silent: number) => void, onRefused?: () => void}} options
   */
  constructor(address, { after, onEvent, onState, onRefused }) {
    this.address = address
    this.after = after
    this.onEvent = onEvent
    this.onState = onState
    this.onRefused = onRefused
    this.tries = 0
    /** @type {EventSource | null} */
    this.source = null
    this.timer = 0
    this.heard = Date.now()
    this.watch = setInterval(() => this.#look(), 1000)
    this.shown = () => (document.hidden ? this.#stop() : this.#connect())
    document.addEventListener('visibilitychange', this.shown)
    this.shown()
  }

  close() {
    clearInterval(this.watch)
    document.removeEventListener('visibilitychange', this.shown)
    this.#stop()
    this.onState('off', 0)
  }

  #stop() {
    clearTimeout(this.timer)
    this.source?.close()
    this.source = null
  }

  #connect() {
    this.#stop()
    this.onState(this.tries ? 'stale' : 'connecting', this.#silence())
    const address = new URL(this.address)
    if (this.after !== null && this.after !== undefined) address.searchParams.set('after', String(this.after))
    const source = new EventSource(address)
    this.source = source
    source.onopen = () => this.#hear()
    source.onerror = () => this.#again(source.readyState === EventSource.CLOSED)
    source.addEventListener('beat', (event) => {
      this.#hear()
      setNow(JSON.parse(event.data).now)
    })
    for (const kind of EVENTS) source.addEventListener(kind, (event) => this.#take(kind, event))
  }

  /** @param {string} kind @param {MessageEvent} event */
  #take(kind, event) {
    this.#hear()
    dispatchEvent(new Event('news'))
    if (event.lastEventId) this.after = event.lastEventId
    if (kind === 'end') this.close()
    this.onEvent(kind, JSON.parse(event.data), event.lastEventId)
  }

  #hear() {
    this.heard = Date.now()
    this.tries = 0
    this.onState('live', 0)
  }

  #silence() {
    return Math.round((Date.now() - this.heard) / 1000)
  }

  #look() {
    if (this.source && Date.now() - this.heard > SILENCE) this.#again(false)
    else if (this.tries) this.onState('stale', this.#silence())
  }

  /** @param {boolean} refused the server answered, but with no stream */
  #again(refused) {
    this.#stop()
    this.tries += 1
    this.onState('stale', this.#silence())
    if (refused && this.tries > 2) this.onRefused?.()
    const pause = Math.min(LONGEST, 250 * 2 ** this.tries) * (0.5 + Math.random() / 2)
    this.timer = setTimeout(() => this.#connect(), pause)
  }
}
