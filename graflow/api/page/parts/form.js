// @ts-check
/** A form made from a JSON Schema: one field for each property, JSON for what has no field of its own. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'

/** The schema that a property has behind references and `anyOf` with null. @param {any} schema @param {any} root @returns {any} */
export const resolved = (schema, root) => {
  if (schema.$ref) {
    const found = schema.$ref.replace(/^#\//, '').split('/').reduce((at, key) => at?.[key], root)
    return found ? resolved({ ...found, ...Object.fromEntries(Object.entries(schema).filter(([key]) => key !== '$ref')) }, root) : {}
  }
  const some = (schema.anyOf ?? schema.oneOf ?? []).filter((each) => each.type !== 'null')
  if (some.length === 1) return { ...resolved(some[0], root), optional: true, ...('default' in schema ? { default: schema.default } : {}), title: schema.title }
  return schema
}

const SIMPLE = ['string', 'number', 'integer']

export const kindOf = (schema, root) => {
  if (schema.enum) return 'enum'
  if (schema.type === 'boolean') return 'boolean'
  if (schema.type === 'string') return schema.format === 'date' ? 'date' : schema.format === 'date-time' ? 'datetime' : 'string'
  if (schema.type === 'integer' || schema.type === 'number') return 'number'
  if (schema.type === 'array' && schema.items && SIMPLE.includes(resolved(schema.items, root).type) && !resolved(schema.items, root).enum) return 'list'
  return 'json'
}

/** What is typed at first. @param {any} value @param {string} kind */
const shown = (value, kind) => {
  if (value === undefined || value === null) return ''
  if (kind === 'list') return value.join('\n')
  return kind === 'json' ? JSON.stringify(value, null, 2) : kind === 'enum' ? JSON.stringify(value) : String(value)
}

/**
 * The value that was typed; undefined for none.
 * @param {string} text @param {string} kind @param {any} schema @param {any} root
 */
export const valueOf = (text, kind, schema, root) => {
  if (kind === 'boolean') return text === 'true'
  if (text.trim() === '' && (kind !== 'string' || schema.optional || schema.default !== undefined)) return undefined
  if (kind === 'number') return numberOf(text)
  if (kind === 'json' || kind === 'enum') {
    try { return JSON.parse(text) } catch { throw new Error('This is no JSON') }
  }
  if (kind === 'datetime') return new Date(text).toISOString()
  if (kind !== 'list') return text
  const isNumber = resolved(schema.items, root).type !== 'string'
  return text.split('\n').map((line) => line.trim()).filter(Boolean).map((line) => (isNumber ? numberOf(line) : line))
}

/** @param {string} text */
const numberOf = (text) => {
  const value = Number(text)
  if (!Number.isFinite(value)) throw new Error(`${text.trim()} is no number`)
  return value
}

/** Fields by name, with what is typed. @param {any} schema @param {Record<string, any>} [given] */
export const fieldsOf = (schema, given = {}) => Object.entries(schema?.properties ?? {}).map(([name, raw]) => {
  const own = resolved(raw, schema)
  const kind = kindOf(own, schema)
  const value = given[name] ?? own.default
  return { name, schema: own, kind, isRequired: (schema.required ?? []).includes(name), text: kind === 'boolean' ? String(value ?? false) : shown(value, kind), wrong: '' }
})

/** The inputs that were typed; fields say what is wrong with them. @param {any[]} fields @param {any} root */
export const inputsOf = (fields, root) => {
  /** @type {Record<string, any>} */
  const inputs = {}
  for (const field of fields) {
    try {
      field.wrong = ''
      const value = valueOf(field.text, field.kind, field.schema, root)
      if (value !== undefined) inputs[field.name] = value
      else if (field.isRequired) field.wrong = 'This is needed'
    } catch (error) {
      field.wrong = /** @type {Error} */ (error).message
    }
  }
  return { inputs, isRight: fields.every((field) => !field.wrong) }
}

/** @param {any} field @param {() => void} changed */
const control = (field, changed) => {
  const { kind, name, schema, text } = field
  const id = `field-${name}`
  const onInput = (event) => { field.text = event.target.value; changed() }
  const wrong = field.wrong ? `${id}-wrong` : nothing
  if (kind === 'boolean') {
    return html`<input id=${id} type="checkbox" .checked=${text === 'true'} @change=${(event) => { field.text = String(event.target.checked); changed() }}>`
  }
  if (kind === 'enum') {
    return html`<select id=${id} @change=${onInput}>${field.isRequired ? nothing : html`<option value="">–</option>`}
      ${schema.enum.map((each) => html`<option value=${JSON.stringify(each)} ?selected=${text === JSON.stringify(each)}>${String(each)}</option>`)}</select>`
  }
  if (kind === 'list' || kind === 'json') {
    return html`<textarea id=${id} rows=${kind === 'list' ? 3 : 5} spellcheck="false" aria-describedby=${wrong} .value=${text} @input=${onInput}></textarea>`
  }
  const type = { number: 'number', date: 'date', datetime: 'datetime-local' }[/** @type {string} */ (kind)] ?? 'text'
  return html`<input id=${id} type=${type} step="any" aria-describedby=${wrong} .value=${text} @input=${onInput}>`
}

const HINTS = /** @type {Record<string, string>} */ ({ list: 'one a line', json: 'JSON' })

/** @param {any[]} fields @param {() => void} changed */
export const form = (fields, changed) => html`${fields.map((field) => html`<div class="field">
  <label for="field-${field.name}">${field.name}${field.isRequired ? '' : ' (optional)'}${HINTS[field.kind] ? `, ${HINTS[field.kind]}` : ''}${field.schema.description ? ` — ${field.schema.description}` : ''}</label>
  ${control(field, changed)}
  ${field.wrong ? html`<span class="wrong" id="field-${field.name}-wrong">${field.wrong}</span>` : nothing}
</div>`)}`
