// @ts-check
/** HTTP to the server that the page came from. */

import { setNow } from './time.js'

/** An answer that says what went wrong (RFC 9457), or that no answer came (status 0). */
export class Problem extends Error {
  /** @param {number} status @param {Record<string, any>} body */
  constructor(status, body) {
    super(body.detail || body.title || `The server answered ${status}`)
    this.status = status
    this.body = body
  }
}

/** @param {string} path below `api/v1/` */
export const url = (path) => new URL(`api/v1/${path}`, document.baseURI)

/** @param {TemplateStringsArray} texts @param {any[]} values */
export const at = (texts, ...values) => texts.reduce((path, text, i) => path + encodeURIComponent(String(values[i - 1])) + text)

/**
 * @param {string} path @param {{method?: string, body?: any, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<{status: number, body: any, headers: Headers}>}
 */
export const call = async (path, { method = 'GET', body, headers = {}, signal } = {}) => {
  /** @type {Record<string, string>} */
  const sent = { Accept: 'application/json', ...headers }
  if (method !== 'GET') Object.assign(sent, { 'X-Graflow': '1', 'Content-Type': 'application/json' })
  let answer
  try {
    answer = await fetch(url(path), { method, headers: sent, body: method === 'GET' ? undefined : JSON.stringify(body ?? {}), signal, redirect: 'error' })
  } catch (error) {
    if (/** @type {any} */ (error)?.name === 'AbortError') throw error
    throw new Problem(0, { title: 'The server does not answer' })
  }
  const date = answer.headers.get('Date')
  const content = await read(answer)
  const told = content?.now ?? content?.seen_at
  if (typeof told === 'string') setNow(told)
  else if (date && !clockIsSet) setNow(date)
  clockIsSet = true
  if (!answer.ok) throw new Problem(answer.status, content ?? {})
  return { status: answer.status, body: content, headers: answer.headers }
}

let clockIsSet = false

const read = async (answer) => {
  const text = await answer.text()
  if (!text || !answer.headers.get('Content-Type')?.includes('json')) return null
  try { return JSON.parse(text) } catch { throw new Problem(0, { title: 'The answer was cut off' }) }
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = async (path, signal) => (await call(path, { signal })).body
