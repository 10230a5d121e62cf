// @ts-check
/** Clock and durations. Ages are told by the server's clock, whatever that of the browser says. */

let ahead = 0 // milliseconds that the server's clock is before ours
let zone = 'local'

/** @param {string} iso the server's time, just now */
export const setNow = (iso) => {
  const at = Date.parse(iso)
  if (Number.isFinite(at)) ahead = at - Date.now()
}

/** Now by the server's clock, milliseconds since the epoch. */
export const now = () => Date.now() + ahead

/** @param {'local' | 'utc'} name */
export const setZone = (name) => { zone = name }

/** @param {string | number | null | undefined} at ISO or seconds since the epoch; milliseconds since the epoch, or null */
export const millis = (at) => {
  if (at === null || at === undefined || at === '') return null
  const value = typeof at === 'number' ? at * 1000 : Date.parse(at)
  return Number.isFinite(value) ? value : null
}

const two = (n) => String(n).padStart(2, '0')
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')

const parts = (at) => {
  const d = new Date(at)
  return zone === 'utc'
    ? { year: d.getUTCFullYear(), month: d.getUTCMonth(), day: d.getUTCDate(), clock: [d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()].map(two).join(':') }
    : { year: d.getFullYear(), month: d.getMonth(), day: d.getDate(), clock: [d.getHours(), d.getMinutes(), d.getSeconds()].map(two).join(':') }
}

/** `13:28:30`, with the day where it is not today. @param {string | number | null | undefined} at */
export const clock = (at) => {
  const ms = millis(at)
  if (ms === null) return ''
  const then = parts(ms)
  const today = parts(now())
  const day = `${then.day} ${MONTHS[then.month]}`
  if (then.year !== today.year) return `${day} ${then.year}, ${then.clock}`
  return then.day === today.day && then.month === today.month ? then.clock : `${day}, ${then.clock}`
}

/** @param {string | number | null | undefined} at */
export const iso = (at) => {
  const ms = millis(at)
  return ms === null ? '' : new Date(ms).toISOString()
}

/** `494 ms`, `5.9 s`, `1 min 30 s`, `1 h 14 min`, `3 d 2 h`. @param {number | null | undefined} seconds */
export const span = (seconds) => {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return ''
  const s = Math.max(0, seconds)
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`
  if (s < 59.95) return `${s.toFixed(1)} s`
  const whole = Math.round(s)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`
  const hours = Math.floor(minutes / 60)
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** How long something took or has taken until now. @param {string | number | null | undefined} from @param {string | number | null} [to] */
export const took = (from, to) => {
  const start = millis(from)
  return start === null ? null : Math.max(0, ((millis(to) ?? now()) - start) / 1000)
}

/** `12 s ago`. @param {string | number | null | undefined} at */
export const ago = (at) => {
  const seconds = took(at)
  return seconds === null ? '' : `${span(seconds < 60 ? Math.round(seconds) : seconds).replace('.0 s', ' s')} ago`
}

/** `in 2 h 05 min`, or how long ago that was. @param {string | number | null | undefined} at */
export const until = (at) => {
  const ms = millis(at)
  if (ms === null) return ''
  return ms > now() ? `in ${span(Math.ceil((ms - now()) / 1000)).replace('.0 s', ' s')}` : ago(at)
}

/** `+1:40`, an offset on an axis. @param {number} seconds */
export const offset = (seconds) => {
  if (seconds < 60) return `+${Number.isInteger(seconds) ? seconds : seconds.toFixed(seconds < 1 ? 2 : 1)} s`
  const s = Math.round(seconds)
  return s < 3600 ? `+${Math.floor(s / 60)}:${two(s % 60)}` : `+${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`
}

const BYTES = ['B', 'kB', 'MB', 'GB', 'TB']

/** @param {number | null | undefined} n */
export const bytes = (n) => {
  if (n === null || n === undefined) return ''
  let unit = 0
  let value = n
  while (value >= 1000 && unit < BYTES.length - 1) { value /= 1000; unit += 1 }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${BYTES[unit]}`
}

/** `10,000`. @param {number | null | undefined} n */
export const number = (n) => (n === null || n === undefined ? '' : String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ','))

/** How far something says it is: "62 of 100 page 62". @param {{done?: number | null, total?: number | null, message?: string | null} | null | undefined} told */
export const progressWords = (told) =>
  (told ? `${number(told.done ?? null)}${told.total ? ` of ${number(told.total)}` : ''} ${told.message ?? ''}`.trim() : null)
