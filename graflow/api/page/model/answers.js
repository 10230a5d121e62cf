// @ts-check
/**
 * What the server says of a run, as the page takes it. A change is put into what is known, so that a snapshot with all
 * changes after it is the later snapshot.
 */

/**
 * Rows of columns: `{step: [...], status: [...]}` gives `[{step, status}, ...]`.
 * @param {Record<string, any[]>} columns @returns {any[]}
 */
export const rowsOf = (columns) => {
  const names = Object.keys(columns)
  const length = names.length ? columns[names[0]].length : 0
  return Array.from({ length }, (_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])))
}

/** @typedef {{run: any, steps: Map<string, any>, seq: number}} Known */

/**
 * @param {Known} known @param {any} change the data of an event `change`
 * @returns {{ended: string[], groups: string[]}} steps that failed or are lost by it, groups whose members moved
 */
export const apply = (known, change) => {
  const said = { ended: /** @type {string[]} */ ([]), groups: /** @type {string[]} */ ([]) }
  if (change.seq <= known.seq) return said
  known.seq = change.seq
  if (change.run) Object.assign(known.run, change.run)
  for (const step of change.steps ?? []) {
    const old = known.steps.get(step.step)
    if (old && (step.visit ?? 1) < (old.visit ?? 1)) continue
    if (step.status === 'failed' && old?.status !== 'failed') said.ended.push(step.step)
    known.steps.set(step.step, { ...old, ...step })
  }
  for (const [name, group] of Object.entries(change.groups ?? {})) {
    patchGroup(known.steps, name, group)
    said.groups.push(name)
  }
  return said
}

/** @param {Map<string, any>} steps @param {string} name @param {any} group counts, and the buckets of its strip that changed */
const patchGroup = (steps, name, group) => {
  const old = steps.get(name) ?? { step: name, status: 'running' }
  const strip = (old.strip ?? []).slice()
  for (const [bucket, counts] of Object.entries(group.strip ?? {})) strip[Number(bucket)] = counts
  steps.set(name, { ...old, counts: group.counts ?? old.counts, strip, size: group.size ?? old.size })
}

/** Counts of steps by state. @param {Map<string, any>} steps @returns {Record<string, number>} */
export const countsOf = (steps) => {
  /** @type {Record<string, number>} */
  const counts = {}
  for (const { status } of steps.values()) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

const WIDTH = 168

export const layoutOf = (answer) => {
  const { nodes, edges } = answer
  const closing = new Set(edges.closing ?? [])
  const places = new Map()
  const found = nodes.name.map((name, i) => {
    const steps = answer.folds?.[i] ?? [name]
    for (const step of steps) places.set(step, i)
    const label = steps.length > 1 ? `${steps.length} steps` : name
    return { name, label, steps, x: nodes.x[i], y: nodes.y[i], w: WIDTH, h: nodes.height[i], isNew: nodes.added[i] }
  })
  return {
    nodes: found,
    places,
    edges: edges.from.map((from, i) => ({ from, to: edges.to[i], closes: closing.has(i), bends: edges.bends?.[i] ?? [] })),
    isRight: answer.direction === 'right',
    width: answer.width,
    height: answer.height,
    isTruncated: Boolean(answer.truncated),
    fingerprint: answer.fingerprint,
  }
}
