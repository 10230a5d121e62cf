// @ts-check
/** Goes from place to place without loading the page again. */

import { store } from './store.js'
import { href, parse, pathOf } from './urls.js'

/** @type {(route: import('./urls.js').Route, before: import('./urls.js').Route | null) => void} */
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
