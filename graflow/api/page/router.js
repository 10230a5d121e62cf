// @ts-check
/**
 * Goes from place to place without loading the page again. The address says all that a view shows, so that a link shows
 * it to others; it is relative to `<base>`, so that a proxy may put the page anywhere.
 */

import { store } from './store.js'

/** @typedef {{view: string, id: string, query: Record<string, string>}} Route */

const WITH_ID = { runs: 'run', groups: 'group', flows: 'flow' }
const PLAIN = ['runs', 'feedback', 'groups', 'workers', 'stats', 'login']

/** @param {string} href @param {string} base @returns {Route} */
export const parse = (href, base) => {
  const url = new URL(href)
  const root = new URL(base)
  const path = url.pathname.startsWith(root.pathname) ? url.pathname.slice(root.pathname.length) : url.pathname.slice(1)
  const [first = '', second = '', more] = path.split('/')
  const query = Object.fromEntries(url.searchParams)
  if (more === undefined) {
    if (first === '' && !second) return { view: 'runs', id: '', query }
    if (second && first in WITH_ID) return { view: WITH_ID[/** @type {keyof typeof WITH_ID} */ (first)], id: decode(second), query }
    if (!second && PLAIN.includes(first)) return { view: first, id: '', query }
  }
  return { view: 'missing', id: path, query }
}

const decode = (text) => {
  try { return decodeURIComponent(text) } catch { return text }
}

/**
 * A path below `<base>`. Values that are empty are left out.
 * @param {string} path @param {Record<string, string | number | null | undefined>} [query]
 */
export const href = (path, query = {}) => {
  const pairs = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== '')
  const text = new URLSearchParams(pairs.map(([key, value]) => [key, String(value)])).toString().replaceAll('%2C', ',')
  return text ? `${path}?${text}` : path
}

/** @param {string} id @param {Record<string, string | number | null | undefined>} [query] */
export const runHref = (id, query) => href(`runs/${encodeURIComponent(id)}`, query)

/** @param {Route} route */
export const pathOf = (route) => {
  const entry = Object.entries(WITH_ID).find(([, view]) => view === route.view)
  return entry ? `${entry[0]}/${encodeURIComponent(route.id)}` : route.view
}

/** @type {(route: Route, before: Route | null) => void} */
let arrived = () => {}

const arrive = () => {
  const before = store.state.route
  const route = parse(location.href, document.baseURI)
  store.set({ route })
  arrived(route, before)
}

/** @param {string} path below `<base>` @param {{replace?: boolean}} [how] replace: for filters and zoom, which are no other place */
export const go = (path, { replace = false } = {}) => {
  const address = new URL(path, document.baseURI).href
  if (address === location.href) return
  history[replace ? 'replaceState' : 'pushState'](null, '', address)
  arrive()
}

/**
 * Change what the address says of this view; a value of null is taken out.
 * @param {Record<string, string | number | null | undefined>} change @param {{replace?: boolean}} [how]
 */
export const turn = (change, how) => go(turned(change), how)

/** Where `turn` would go. @param {Record<string, string | number | null | undefined>} change */
export const turned = (change) => {
  const { route } = store.state
  return href(pathOf(route), { ...route.query, ...change })
}

const onClick = (event) => {
  if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return
  const link = /** @type {HTMLAnchorElement | null} */ (/** @type {Element} */ (event.target).closest?.('a[href]'))
  if (!link || link.target || link.hasAttribute('download') || link.dataset.plain !== undefined) return
  if (!link.href.startsWith(document.baseURI)) return
  event.preventDefault()
  go(link.href, { replace: link.dataset.replace !== undefined })
}

/** @param {typeof arrived} onArrival */
export const start = (onArrival) => {
  arrived = onArrival
  addEventListener('popstate', arrive)
  document.addEventListener('click', onClick)
  const route = parse(location.href, document.baseURI)
  store.set({ route })
  arrived(route, null)
}
