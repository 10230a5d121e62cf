// @ts-check
/** What of a plane is in sight: plane point (x, y) is at ((x − camera.x) · scale, (y − camera.y) · scale). */

export const SMALLEST = 0.03
export const LARGEST = 2
const READABLE = 0.5
const CLOSE = 0.78
const MARGIN = 36

/** @typedef {{x: number, y: number, scale: number}} Camera */
/** @typedef {{width: number, height: number}} Size */

/** All of it in the middle. @param {Size} plane @param {Size} screen @returns {Camera} */
export const fitted = (plane, screen) => {
  const room = { width: Math.max(1, screen.width - 2 * MARGIN), height: Math.max(1, screen.height - 2 * MARGIN) }
  const scale = Math.max(SMALLEST, Math.min(1, room.width / Math.max(1, plane.width), room.height / Math.max(1, plane.height)))
  return { scale, x: plane.width / 2 - screen.width / 2 / scale, y: plane.height / 2 - screen.height / 2 / scale }
}

/** A place in the middle. @param {number} x @param {number} y @param {number} scale @param {Size} screen @returns {Camera} */
export const centred = (x, y, scale, screen) => ({ scale, x: x - screen.width / 2 / scale, y: y - screen.height / 2 / scale })

/**
 * How a graph is opened: as a whole where that can be read, else near what matters most.
 * @param {Size} plane @param {Size} screen @param {{x: number, y: number} | null} matter @returns {Camera}
 */
export const opened = (plane, screen, matter) => {
  const whole = fitted(plane, screen)
  return whole.scale >= READABLE || !matter ? whole : centred(matter.x, matter.y, CLOSE, screen)
}

/** Larger or smaller around a point of the screen, which stays where it is. @param {Camera} camera @param {number} factor @param {number} sx @param {number} sy @returns {Camera} */
export const zoomed = (camera, factor, sx, sy) => {
  const scale = Math.max(SMALLEST, Math.min(LARGEST, camera.scale * factor))
  return { scale, x: camera.x + sx / camera.scale - sx / scale, y: camera.y + sy / camera.scale - sy / scale }
}

/** @param {Camera} camera @param {number} dx of the screen @param {number} dy @returns {Camera} */
export const moved = (camera, dx, dy) => ({ ...camera, x: camera.x - dx / camera.scale, y: camera.y - dy / camera.scale })

/** Moved as little as brings a box into sight. @param {Camera} camera @param {{x: number, y: number, w: number, h: number}} box @param {Size} screen @returns {Camera} */
export const shown = (camera, box, screen) => {
  const [width, height] = [screen.width / camera.scale, screen.height / camera.scale]
  const edge = MARGIN / camera.scale
  const x = box.x < camera.x + edge ? box.x - edge : box.x + box.w > camera.x + width - edge ? box.x + box.w - width + edge : camera.x
  const y = box.y < camera.y + edge ? box.y - edge : box.y + box.h > camera.y + height - edge ? box.y + box.h - height + edge : camera.y
  return { ...camera, x, y }
}

/** Whether all is in sight. @param {Camera} camera @param {Size} plane @param {Size} screen */
export const seesAll = (camera, plane, screen) =>
  camera.x <= 0 && camera.y <= 0 && plane.width <= camera.x + screen.width / camera.scale && plane.height <= camera.y + screen.height / camera.scale
