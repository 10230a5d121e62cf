// @ts-check
/** One question, and the answer that somebody is about to give. */

import { at, call, get } from '../api.js'
import { blame, fieldOf, read } from '../parts/form.js'

/** What is kept of who answers, where the server asks nobody who they are. */
const NAME = 'name'

const remembered = () => {
  try { return localStorage.getItem(NAME) ?? '' } catch { return '' }
}

export class Answering {
  /** @param {any} question @param {import('../store.js').Store} store @param {() => void} [onChange] called when an answer was counted or refused */
  constructor(question, store, onChange = () => {}) {
    this.question = question
    this.store = store
    this.onChange = onChange
    this.field = fieldOf('value', question.schema, question.schema)
    this.reason = ''
    this.by = remembered()
    this.problem = null // why the last try came to nothing
    this.isBeaten = false // somebody else was first
    this.isBusy = false
  }

  get isOpen() { return this.question.state === 'open' }

  get isBoolean() { return this.question.schema.type === 'boolean' }

  /** Whether the server takes our word for who we are. */
  get saysWho() { return this.store.state.server?.auth === 'none' }

  /** Read it by itself, by which the server learns that somebody looks at it, as it does not by a list. */
  async look() {
    const found = await get(at`questions/${this.question.id}`).catch(() => null)
    if (!found || this.isBusy) return
    this.question = found
    this.store.set()
  }

  /** The same question, newer. @param {any} question */
  update(question) {
    this.question = question
  }

  /** Send what is in the form. */
  send() {
    const value = read(this.field, this.question.schema)
    if (!isFilled(this.field)) {
      this.store.set({ said: 'Something is missing' })
      return
    }
    this.answer(value)
  }

  /** @param {any} value */
  async answer(value) {
    if (this.isBusy) return
    Object.assign(this, { isBusy: true, problem: null })
    this.store.set()
    const body = { value, reason: this.reason.trim() || null, by: (this.saysWho && this.by.trim()) || null }
    try {
      const answer = await call(at`questions/${this.question.id}/answers`, { method: 'POST', body })
      this.question = answer.body
      if (this.saysWho) this.#remember()
      this.store.set({ said: this.isOpen ? 'Counted; others have to answer as well' : 'Answered' })
    } catch (error) {
      await this.#refused(/** @type {any} */ (error))
    }
    this.isBusy = false
    this.onChange()
    this.store.set()
  }

  /** @param {import('../api.js').Problem} error */
  async #refused(error) {
    const { status, body } = error
    if (status === 409 || status === 410) {
      this.isBeaten = true
      this.question = await get(at`questions/${this.question.id}`).catch(() => this.question)
    }
    const left = status === 422 && body.errors ? blame([this.field], body.errors, 0) : null
    this.problem = left?.length === 0 ? null : error
    this.store.set({ said: error.message })
  }

  #remember() {
    try { localStorage.setItem(NAME, this.by.trim()) } catch { /* a browser that keeps nothing */ }
  }
}

/** @param {import('../parts/form.js').Field} field @returns {boolean} */
const isFilled = (field) => !field.wrong && field.fields.every(isFilled)
