// @ts-check
/** How many questions are open, for the bar of all views: counted again when something happens, and now and then. */

import { get } from './api.js'

const SOON = 1000
const AGAIN = 15_000

/** @param {import('./store.js').Store} store */
export const follow = (store) => {
  if (!store.state.server?.features?.questions) return
  let timer = 0
  const count = async () => {
    timer = 0
    if (document.hidden || store.state.route.view === 'login') return
    const found = await get('questions/count').catch(() => null)
    if (found) store.set({ asked: found.count ? `${found.count}${found.is_more ? '+' : ''}` : '' })
  }
  addEventListener('news', () => { timer ||= setTimeout(count, SOON) })
  setInterval(count, AGAIN)
  count()
}
