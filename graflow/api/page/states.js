// @ts-check
/** States of flows, steps and members: family (its colour), icon and whether their tile is hollow. `graflow/drawing/looks.py` has the same table. */

/** @type {Record<string, {family: string, icon: string, hollow?: boolean}>} */
export const STATES = {
  pending: { family: 'pending', icon: 'ring', hollow: true },
  ready: { family: 'pending', icon: 'ring', hollow: true },
  queued: { family: 'pending', icon: 'lines' },
  running: { family: 'running', icon: 'open-ring' },
  claimed: { family: 'running', icon: 'open-ring', hollow: true },
  completed: { family: 'completed', icon: 'tick' },
  cached: { family: 'completed', icon: 'flash', hollow: true },
  reused: { family: 'completed', icon: 'flash', hollow: true },
  failed: { family: 'failed', icon: 'cross' },
  waiting: { family: 'waiting', icon: 'bars' },
  paused: { family: 'waiting', icon: 'bars' },
  retrying: { family: 'waiting', icon: 'round-arrow' },
  lost: { family: 'lost', icon: 'question' },
  cancelled: { family: 'cancelled', icon: 'struck-ring' },
  cancelling: { family: 'cancelled', icon: 'struck-ring' },
  skipped: { family: 'cancelled', icon: 'chevrons', hollow: true },
}

export const FAMILIES = ['pending', 'running', 'completed', 'failed', 'waiting', 'lost', 'cancelled']

/** What a bar shows first, from the left. */
export const ORDER = ['completed', 'cached', 'reused', 'running', 'claimed', 'retrying', 'waiting', 'paused', 'failed', 'lost', 'cancelling', 'cancelled',
  'skipped', 'queued', 'ready', 'pending']

/** What somebody who opens a run wants to see first. */
export const URGENT = ['failed', 'lost', 'running', 'waiting', 'paused']

/** Letters of states in the strip of a group. */
export const LETTERS = {
  p: 'pending', y: 'ready', q: 'queued', r: 'running', w: 'waiting', z: 'paused', x: 'cancelling', k: 'cancelled', d: 'completed', f: 'failed', u: 'reused',
  c: 'cached', s: 'skipped', l: 'lost',
}

/** @param {Record<string, number>} bucket of a strip, by letter */
export const stripCounts = (bucket) => Object.fromEntries(Object.entries(bucket).map(([letter, n]) => [LETTERS[/** @type {keyof typeof LETTERS} */ (letter)] ?? letter, n]))

/** @param {any} run */
export const stateOf = (run, counts = run.counts) => (run.status === 'queued' && counts?.waiting ? 'waiting' : run.status)

const UNKNOWN = { family: 'pending', icon: 'question' }

/** @param {string} state */
export const look = (state) => STATES[state] ?? UNKNOWN

/** @param {string} state */
export const isEnd = (state) => state === 'completed' || state === 'failed' || state === 'cancelled' || state === 'lost'

/**
 * Counts in the order of bars, without those that are zero.
 * @param {Record<string, number> | null | undefined} counts
 * @returns {[string, number][]}
 */
export const counted = (counts) => /** @type {[string, number][]} */ (ORDER.map((state) => [state, counts?.[state] ?? 0])).filter(([, n]) => n > 0)

/** How many of these have ended well. @param {Record<string, number> | null | undefined} counts */
export const done = (counts) => (counts?.completed ?? 0) + (counts?.cached ?? 0) + (counts?.reused ?? 0)

/** @param {Record<string, number> | null | undefined} counts */
export const total = (counts) => Object.values(counts ?? {}).reduce((sum, n) => sum + n, 0)
