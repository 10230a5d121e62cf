// @ts-check
/** A form made from a JSON Schema: one field for each property, those of models in models as well; JSON for what has no field of its own. */

import { html, nothing } from '../vendor/lit-html/lit-html.js'

/** @typedef {{name: string, path: string, schema: any, kind: string, isRequired: boolean, fields: Field[], options: any[], text: string, first: string, wrong: string}} Field */

/** The schema that a property has behind references and `anyOf` with null. @param {any} schema @param {any} root @returns {any} */
export const resolved = (schema, root) => {
  if (schema.$ref) {
    const found = schema.$ref.replace(/^#\//, '').split('/').reduce((at, key) => at?.[key], root)
    return found && found !== schema ? resolved({ ...found, ...Object.fromEntries(Object.entries(schema).filter(([key]) => key !== '$ref')) }, root) : {}
  }
  const some = (schema.anyOf ?? schema.oneOf ?? []).filter((each) => each.type !== 'null')
  if (some.length === 1) return { ...resolved(some[0], root), optional: true, ...('default' in schema ? { default: schema.default } : {}), title: schema.title }
  return 'const' in schema ? { enum: [schema.const], ...schema } : schema
}

const SIMPLE = ['string', 'number', 'integer']
const DEEPEST = 4 // models in models that have fields
const FEW = 5 // options that are all in sight

/** @param {any} schema @param {any} root @param {number} [deep] */
export const kindOf = (schema, root, deep = 0) => {
  if (schema.enum) return 'enum'
  if (schema.type === 'boolean') return 'boolean'
  if (schema.type === 'string') return schema.format === 'date' ? 'date' : schema.format === 'date-time' ? 'datetime' : 'string'
  if (schema.type === 'integer' || schema.type === 'number') return 'number'
  if (schema.type === 'object' && deep < DEEPEST && Object.keys(schema.properties ?? {}).length) return 'object'
  const item = schema.type === 'array' && schema.items ? resolved(schema.items, root) : {}
  if (item.enum) return 'several'
  return SIMPLE.includes(item.type) ? 'list' : 'json'
}

/** What is typed at first. @param {any} value @param {string} kind */
const shown = (value, kind) => {
  if (kind === 'boolean') return String(value ?? false)
  if (kind === 'several') return JSON.stringify(value ?? [])
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
  if (kind === 'several') return JSON.parse(text)
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

/**
 * One field, with what is typed.
 * @param {string} name @param {any} raw its schema @param {any} root that references are into
 * @param {{isRequired?: boolean, given?: any, prefix?: string, deep?: number}} [options] prefix: the models around it @returns {Field}
 */
export const fieldOf = (name, raw, root, { isRequired = true, given, prefix = '', deep = 0 } = {}) => {
  const schema = resolved(raw, root)
  const path = prefix + name
  const kind = kindOf(schema, root, deep)
  const value = given ?? schema.default
  const text = kind === 'object' ? '' : shown(value, kind)
  const fields = kind === 'object' ? fieldsOf(schema, value ?? {}, root, `${path}.`, deep + 1) : []
  const options = kind === 'several' ? resolved(schema.items, root).enum : schema.enum ?? []
  return { name, path, schema, kind, isRequired, fields, options, text, first: text, wrong: '' }
}

/** Fields by name. @param {any} schema @param {Record<string, any>} [given] @param {any} [root] @param {string} [prefix] @param {number} [deep] @returns {Field[]} */
export const fieldsOf = (schema, given = {}, root = schema, prefix = '', deep = 0) => Object.entries(schema?.properties ?? {}).map(([name, raw]) =>
  fieldOf(name, raw, root, { isRequired: (schema.required ?? []).includes(name), given: given[name], prefix, deep }))

/** Whether nothing was typed. @param {Field} field @returns {boolean} */
const isUntouched = (field) => (field.kind === 'object' ? field.fields.every(isUntouched) : field.text === field.first)

/** @param {Field} field @returns {boolean} */
const isRight = (field) => !field.wrong && field.fields.every(isRight)

/** What was typed into a field, which says what is wrong with it; undefined for nothing. @param {Field} field @param {any} root @returns {any} */
export const read = (field, root) => {
  field.wrong = ''
  if (field.kind === 'object') return !field.isRequired && isUntouched(field) ? undefined : inputsOf(field.fields, root).inputs
  try {
    const value = valueOf(field.text, field.kind, field.schema, root)
    if (value === undefined && field.isRequired) field.wrong = 'This is needed'
    return value
  } catch (error) {
    field.wrong = /** @type {Error} */ (error).message
    return undefined
  }
}

/** The inputs that were typed; fields say what is wrong with them. @param {Field[]} fields @param {any} root */
export const inputsOf = (fields, root) => {
  /** @type {Record<string, any>} */
  const inputs = {}
  for (const field of fields) {
    const value = read(field, root)
    if (value !== undefined) inputs[field.name] = value
  }
  return { inputs, isRight: fields.every(isRight) }
}

/**
 * Let the fields say what the server finds wrong with them; what belongs to none of them is given back.
 * @param {Field[]} fields @param {{at: string[], why: string}[]} errors with the names of models and field behind the first `skip` words
 * @param {number} skip
 */
export const blame = (fields, errors, skip) => errors.filter(({ at, why }) => {
  const path = at.slice(skip).join('.')
  const field = flat(fields).find((each) => each.path === path)
  if (field) field.wrong = why
  return !field
})

/** @param {Field[]} fields @returns {Field[]} */
const flat = (fields) => fields.flatMap((field) => [field, ...flat(field.fields)])

/** Options that are all in sight: one of them, or several. @param {Field} field @param {() => void} changed */
const choices = (field, changed) => {
  const isSeveral = field.kind === 'several'
  const texts = field.options.map((each) => JSON.stringify(each))
  const chosen = isSeveral ? JSON.parse(field.text).map((each) => JSON.stringify(each)) : [field.text]
  const toggle = (text) => {
    field.text = isSeveral ? `[${texts.filter((each) => chosen.includes(each) !== (each === text)).join(',')}]` : text
    changed()
  }
  return html`<div class="options">${texts.map((text, i) => html`<label><input type=${isSeveral ? 'checkbox' : 'radio'} name="field-${field.path}"
    .checked=${chosen.includes(text)} @change=${() => toggle(text)}> ${String(field.options[i])}</label>`)}</div>`
}

/** @param {Field} field @param {() => void} changed @param {string | typeof nothing} wrong the id of what is wrong with it */
const control = (field, changed, wrong) => {
  const { kind, text } = field
  const id = `field-${field.path}`
  const onInput = (event) => { field.text = event.target.value; changed() }
  if (kind === 'boolean') {
    return html`<input id=${id} type="checkbox" .checked=${text === 'true'} @change=${(event) => { field.text = String(event.target.checked); changed() }}>`
  }
  if (kind === 'enum') {
    return html`<select id=${id} aria-describedby=${wrong} @change=${onInput}>${field.isRequired && text ? nothing : html`<option value="">–</option>`}
      ${field.options.map((each) => html`<option value=${JSON.stringify(each)} ?selected=${text === JSON.stringify(each)}>${String(each)}</option>`)}</select>`
  }
  if (kind === 'list' || kind === 'json') {
    return html`<textarea id=${id} rows=${kind === 'list' ? 3 : 5} spellcheck="false" aria-describedby=${wrong} .value=${text} @input=${onInput}></textarea>`
  }
  const type = { number: 'number', date: 'date', datetime: 'datetime-local' }[/** @type {string} */ (kind)] ?? 'text'
  return html`<input id=${id} type=${type} step="any" aria-describedby=${wrong} .value=${text} @input=${onInput}>`
}

const HINTS = /** @type {Record<string, string>} */ ({ list: 'one a line', json: 'JSON' })

/** @param {Field} field @param {() => void} changed @param {string} [title] what it is called, where that is not its name @returns {any} */
export const row = (field, changed, title = field.name) => {
  const { kind, schema, path } = field
  const id = `field-${path}-wrong`
  const label = html`${title}${field.isRequired ? '' : ' (optional)'}${HINTS[kind] ? `, ${HINTS[kind]}` : ''}${schema.description ? ` — ${schema.description}` : ''}`
  const told = field.wrong ? html`<span class="wrong" id=${id}>${field.wrong}</span>` : nothing
  if (kind === 'object') return html`<fieldset class="choice inner"><legend>${label}</legend>${form(field.fields, changed)}${told}</fieldset>`
  if (kind === 'several' || (kind === 'enum' && field.isRequired && field.options.length <= FEW)) {
    return html`<fieldset class="choice"><legend>${label}</legend>${choices(field, changed)}${told}</fieldset>`
  }
  return html`<div class="field"><label for="field-${path}">${label}</label>${control(field, changed, field.wrong ? id : nothing)}${told}</div>`
}

/** @param {Field[]} fields @param {() => void} changed @returns {any} */
export const form = (fields, changed) => html`${fields.map((field) => row(field, changed))}`
