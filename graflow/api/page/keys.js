// @ts-check
/** Keys of all views: `/` searches, `j` and `k` walk through rows, `?` lists them; a view has its own beside these. */

import { store } from './store.js'

/** @param {KeyboardEvent} event @param {Record<string, any>} state */
export const keyPressed = (event, state) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || state.dialog) return
  const target = /** @type {HTMLElement} */ (event.target)
  if (target.closest?.('input, textarea, select, [contenteditable]')) {
    if (event.key === 'Escape') target.blur()
    return
  }
  const act = state.drawn?.keys?.[event.key] ?? COMMON[event.key]
  if (!act || target.closest?.('[data-keys]')?.hasAttribute('data-keys') && event.key.length > 1) return
  if (act(state.model, event) !== false) event.preventDefault()
}

/** @param {number} step */
const walk = (step) => {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('[data-row]')])
  if (!rows.length) return false
  const here = rows.findIndex((row) => row.contains(document.activeElement))
  const next = rows[here < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, here + step))]
  const inside = /** @type {HTMLElement | null} */ (next.matches('a, button, [tabindex]') ? next : next.querySelector('a'))
  inside?.focus()
  next.scrollIntoView({ block: 'nearest' })
  return true
}

/** @type {Record<string, (model: any, event: KeyboardEvent) => any>} */
const COMMON = {
  '/': () => {
    const search = /** @type {HTMLInputElement | null} */ (document.querySelector('input[type=search]'))
    search?.focus()
    search?.select()
  },
  j: () => walk(1),
  k: () => walk(-1),
  '?': () => store.set({ dialog: { kind: 'keys' } }),
}
