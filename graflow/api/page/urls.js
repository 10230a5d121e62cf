// @ts-check
/** The address says all that a view shows, so that a link shows it to others; relative to `<base>`, so that a proxy may put it anywhere. */

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
