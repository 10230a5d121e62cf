// @ts-check
/** The graph for keyboards and readers: a list box of all steps, of which those around the active one are real elements. */

import { stateOf } from './nodes.js'
import { number } from '../time.js'

const AROUND = 4

export class GraphKeys {
  constructor(graph) {
    this.graph = graph
    this.active = 0
    this.element = document.createElement('div')
    this.element.className = 'keys'
    this.element.tabIndex = 0
    this.element.dataset.keys = ''
    this.element.setAttribute('role', 'listbox')
    this.element.setAttribute('aria-label', 'Steps of the graph')
    this.element.addEventListener('keydown', (event) => this.#press(event))
  }

  get nodes() { return this.graph.layout?.nodes ?? [] }

  /** What a reader says of a step. */
  #said(node) {
    const row = stateOf(node, this.graph.steps)
    return `${node.label}, ${row.status}${row.size ? `, ${number(row.size)} ${node.steps.length > 1 ? 'steps' : 'members'}` : ''}`
  }

  /** Options say what is so now. */
  update() {
    const { nodes } = this
    const chosen = this.graph.indexOf(this.graph.chosen)
    if (chosen >= 0 && document.activeElement !== this.element) this.active = chosen
    this.active = Math.max(0, Math.min(nodes.length - 1, this.active))
    const first = Math.max(0, this.active - AROUND)
    const wanted = nodes.slice(first, this.active + AROUND + 1)
    while (this.element.children.length > wanted.length) this.element.lastElementChild?.remove()
    wanted.forEach((node, i) => {
      const option = this.element.children[i] ?? this.element.appendChild(document.createElement('div'))
      const place = first + i
      const said = this.#said(node)
      if (option.textContent !== said) option.textContent = said
      option.id = `node-${place}`
      option.setAttribute('role', 'option')
      option.setAttribute('aria-selected', String(place === chosen))
      option.setAttribute('aria-setsize', String(nodes.length))
      option.setAttribute('aria-posinset', String(place + 1))
    })
    if (nodes.length) this.element.setAttribute('aria-activedescendant', `node-${this.active}`)
  }

  /** @param {number} place */
  #go(place) {
    if (place < 0 || place >= this.nodes.length) return
    this.active = place
    this.graph.choose(this.nodes[place])
    this.update()
  }

  /** The neighbour in a direction: the next along an edge, or the nearest beside it in its layer. @param {string} key */
  #neighbour(key) {
    const { layout } = this.graph
    const isRight = layout.isRight
    const [ahead, back] = isRight ? ['ArrowRight', 'ArrowLeft'] : ['ArrowDown', 'ArrowUp']
    if (key === ahead) return layout.edges.find((edge) => edge.from === this.active && !edge.closes)?.to ?? -1
    if (key === back) return layout.edges.find((edge) => edge.to === this.active && !edge.closes)?.from ?? -1
    const sign = key === 'ArrowRight' || key === 'ArrowDown' ? 1 : -1
    const [along, across] = isRight ? ['x', 'y'] : ['y', 'x']
    const here = this.nodes[this.active]
    let [best, near] = [-1, Infinity]
    this.nodes.forEach((node, i) => {
      const apart = (node[across] - here[across]) * sign
      if (apart > 0 && apart < near && Math.abs(node[along] - here[along]) < 40) [best, near] = [i, apart]
    })
    return best
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.graph.layout) return
    const { key } = event
    if (key.startsWith('Arrow')) this.#go(this.#neighbour(key))
    else if (key === 'Home') this.#go(0)
    else if (key === 'End') this.#go(this.nodes.length - 1)
    else if (key === 'Enter' || key === ' ') { this.graph.choose(this.nodes[this.active]); this.graph.dispatchEvent(new CustomEvent('enter')) }
    else return
    event.preventDefault()
    event.stopPropagation()
  }
}
