// Paints the plane on a canvas: real points, drawn points, and behind them what the judge makes of every place.
// Blue is real and orange is drawn, in the points as in the judge's surface, and in the same bands as a run's pictures.

import type { Frame, Opened } from '../contract'
import { stamp } from './dots'
import {
  area,
  around,
  arrows,
  BANDS,
  band,
  blurred,
  contour,
  density,
  pixels as pixelsOf,
  ticks,
  thinned,
  type Numbers,
  type Window,
} from './geometry'

export interface Layers {
  real: boolean
  drawn: boolean
  surface: boolean
  manifold: boolean
  arrows: boolean
}

/** What one picture holds. A `judged` beside points is what the judge said of each, 0 to 255: they are filled by it. */
export interface Scene {
  window: Window
  real?: Numbers
  drawn?: Numbers
  judgedReal?: Numbers
  judgedDrawn?: Numbers
  surface?: Numbers
  manifold?: Numbers
  feet?: Numbers
  arrows?: Numbers
}

type Colour = [number, number, number]

export interface Colours {
  real: Colour
  drawn: Colour
  saysReal: Colour
  saysDrawn: Colour
  undecided: Colour
  ink: Colour
  faint: Colour
  line: Colour
}

export type Arrays = Record<string, Numbers>
export interface Opening {
  head: Opened
  arrays: Arrays
}
export interface Shot {
  head: Frame
  arrays: Arrays
}

const RASTER = 720 // pixels a side of the surface at most; the canvas stretches it
const ROOM = { point: 6, arrow: 32 } // pixels a side that each should have, were they spread out
const ARROWS = 16 // to a side at most: they are as long as the picture is wide
const MAPS = 3 // of the surfaces blurred last are kept: each bench's, so that hovering costs nothing

/** What a frame shows of a bench; in a stage of slow motion the move's own batch, until it has been learnt from. */
export function scene(
  opened: Opened,
  real: Numbers | undefined,
  bench: number,
  frame: Shot | null,
  layers: Layers,
): Scene {
  const window = opened.window
  if (!frame) return { window, real: layers.real ? real : undefined }
  const of = (name: string): Numbers | undefined => frame.arrays[`${bench}/${name}`]
  const below = {
    surface: layers.surface ? of('surface') : undefined,
    manifold: layers.manifold ? of('manifold') : undefined,
  }
  const stage = frame.head.stage?.name
  const batch = of('batch_fake')
  if (!stage || stage === 'update' || !batch) {
    const pulled = layers.arrows ? of('arrows') : undefined
    return {
      window,
      ...below,
      real: layers.real ? real : undefined,
      drawn: layers.drawn ? of('fake') : undefined,
      feet: pulled && of('fake'),
      arrows: pulled,
    }
  }
  const judged = stage !== 'draw'
  const pulled = stage === 'gradient' ? of('batch_arrows') : undefined
  return {
    window,
    ...below,
    real: of('batch_real') ?? (layers.real ? real : undefined),
    drawn: batch,
    judgedReal: judged ? of('batch_judged_real') : undefined,
    judgedDrawn: judged ? of('batch_judged_fake') : undefined,
    feet: pulled && batch,
    arrows: pulled,
  }
}

/** Paint a scene on a square of `side` CSS pixels, of `ratio` device pixels each. plain: no axes, for small ones. */
export function paint(
  context: CanvasRenderingContext2D,
  side: number,
  ratio: number,
  what: Scene,
  colours: Colours,
  plain = false,
): void {
  context.setTransform(ratio, 0, 0, ratio, 0, 0)
  context.fillStyle = css(colours.undecided)
  context.fillRect(0, 0, side, side)
  if (what.surface?.values.length) paintSurface(context, side, ratio, what.surface, colours)
  if (what.manifold?.values.length) paintManifold(context, side, what, colours)
  paintPoints(context, side, ratio, what, colours)
  if (what.feet && what.arrows) paintArrows(context, side, what, colours)
  if (!plain) paintAxes(context, side, what.window, colours)
}

/** The surface of a scene as it is shown, its grain smoothed away, (n, n); hovering asks for it again. */
export function shown(surface: Numbers): Float32Array {
  const at = maps.findIndex(([of]) => of === surface.values)
  if (at >= 0) return maps[at][1]
  const map = blurred(surface.values, surface.shape[0])
  maps.unshift([surface.values, map])
  maps.length = Math.min(maps.length, MAPS)
  return map
}
const maps: [ArrayLike<number>, Float32Array][] = []

function paintSurface(
  context: CanvasRenderingContext2D,
  side: number,
  ratio: number,
  surface: Numbers,
  colours: Colours,
): void {
  const n = surface.shape[0]
  const map = shown(surface)
  const size = Math.min(Math.round(side * ratio), RASTER)
  const picture = layerOf(size)
  raster(new Uint32Array(picture.data.buffer), size, map, n, palette(colours))
  const sheet = canvasOf(size)
  sheet.getContext('2d')!.putImageData(picture, 0, 0)
  context.imageSmoothingEnabled = size !== Math.round(side * ratio)
  context.drawImage(sheet, 0, 0, side, side)
  const pieces = contour(map, n)
  context.beginPath()
  for (let i = 0; i < pieces.length; i += 4) {
    context.moveTo(pieces[i] * side, pieces[i + 1] * side)
    context.lineTo(pieces[i + 2] * side, pieces[i + 3] * side)
  }
  context.strokeStyle = css(colours.line, 0.8)
  context.lineWidth = 1.2
  context.stroke()
}

/** Enlarge a map (n, n) of [0, 255] to (size, size), bilinear between cells' centres, in a palette's colours. */
export function raster(out: Uint32Array, size: number, map: Float32Array, n: number, colours: Uint32Array): void {
  const columns = new Int32Array(size)
  const shares = new Float32Array(size)
  for (let i = 0; i < size; i++) {
    const at = Math.min(Math.max(((i + 0.5) / size) * n - 0.5, 0), n - 1)
    columns[i] = Math.min(Math.floor(at), n - 2)
    shares[i] = at - columns[i]
  }
  const row = new Float32Array(n)
  const steps = (colours.length - 1) / 255
  for (let y = 0; y < size; y++) {
    const above = columns[y] * n
    for (let k = 0; k < n; k++) row[k] = (map[above + k] + (map[above + n + k] - map[above + k]) * shares[y]) * steps
    for (let x = 0; x < size; x++) {
      const k = columns[x]
      out[y * size + x] = colours[(row[k] + (row[k + 1] - row[k]) * shares[x] + 0.5) | 0]
    }
  }
}

/** The colours of [0, 255] in four steps each, as a canvas keeps them in memory. */
export function palette(colours: Colours): Uint32Array {
  const key = JSON.stringify(colours)
  if (palettes.has(key)) return palettes.get(key)!
  const bytes = new Uint8Array(1021 * 4)
  for (let i = 0; i < 1021; i++) {
    const share = band(i / 4) / BANDS
    const end = share < 0 ? colours.saysDrawn : colours.saysReal
    const mixed = colours.undecided.map((channel, c) => channel + (end[c] - channel) * Math.abs(share))
    bytes.set([...mixed, 255], i * 4)
  }
  const found = new Uint32Array(bytes.buffer)
  palettes.set(key, found)
  return found
}
const palettes = new Map<string, Uint32Array>()

const SHADES = 6

function paintManifold(context: CanvasRenderingContext2D, side: number, what: Scene, colours: Colours): void {
  const corners = pixelsOf(what.manifold!, what.window, side)
  context.strokeStyle = css(colours.drawn, 0.4)
  context.lineWidth = Math.max(side / 800, 0.5)
  if (what.manifold!.shape.length === 2) {
    context.strokeStyle = css(colours.drawn, 0.8)
    context.lineWidth = Math.max(side / 300, 1)
    context.stroke(polyline(corners, 0, 2, what.manifold!.shape[0]))
    return
  }
  const m = what.manifold!.shape[0]
  const dense = density(corners, m, side)
  const paths = Array.from({ length: SHADES }, () => new Path2D())
  for (let cell = 0; cell < dense.length; cell++) {
    const shade = Math.min(Math.floor((dense[cell] / (dense[cell] + 6)) * SHADES), SHADES - 1)
    const [a, b, c, d] = around(m, cell)
    // Wound the same way all of them, or two that lie over each other would cancel out.
    const order = area(corners, m, cell) < 0 ? [a, d, c, b] : [a, b, c, d]
    paths[shade].moveTo(corners[order[0]], corners[order[0] + 1])
    for (const at of order.slice(1)) paths[shade].lineTo(corners[at], corners[at + 1])
    paths[shade].closePath()
  }
  paths.forEach((path, shade) => {
    context.fillStyle = css(colours.drawn, 0.06 + (0.4 * shade) / (SHADES - 1))
    context.fill(path)
  })
  const lines = new Path2D()
  for (let k = 0; k < m; k++) {
    lines.addPath(polyline(corners, 2 * k * m, 2, m))
    lines.addPath(polyline(corners, 2 * k, 2 * m, m))
  }
  context.stroke(lines)
}

function polyline(corners: Float32Array, first: number, apart: number, count: number): Path2D {
  const path = new Path2D()
  for (let k = 0; k < count; k++) path.lineTo(corners[first + k * apart], corners[first + k * apart + 1])
  return path
}

function paintPoints(
  context: CanvasRenderingContext2D,
  side: number,
  ratio: number,
  what: Scene,
  colours: Colours,
): void {
  const scale = Math.max(side / 480, 0.45)
  const layers = [
    { points: what.real, judged: what.judgedReal, radius: 3.2 * scale, opacity: 0.5, colour: colours.real },
    { points: what.drawn, judged: what.judgedDrawn, radius: 2.2 * scale, opacity: 0.75, colour: colours.drawn },
  ]
  const size = Math.round(side * ratio)
  const pixels = layerOf(size)
  for (const { points, judged, radius, opacity, colour } of layers) {
    if (!points || judged) continue
    const places = pixelsOf(points, what.window, size)
    stamp(pixels.data, size, places, thinned(places.length / 2, side, ROOM.point), radius * ratio, colour, opacity)
  }
  if (layers.some(({ points, judged }) => points && !judged)) {
    const sheet = canvasOf(size)
    sheet.getContext('2d')!.putImageData(pixels, 0, 0)
    context.imageSmoothingEnabled = false
    context.drawImage(sheet, 0, 0, side, side)
  }
  for (const { points, judged, radius, colour } of layers) {
    if (points && judged)
      paintJudged(context, pixelsOf(points, what.window, side), judged, radius + 1.5, colour, colours)
  }
}

/** Points filled by what the judge said of them, ringed by what they are. */
function paintJudged(
  context: CanvasRenderingContext2D,
  places: Float32Array,
  judged: Numbers,
  radius: number,
  colour: Colour,
  colours: Colours,
): void {
  context.lineWidth = 1.2
  context.strokeStyle = css(colour)
  for (let i = 0; i < places.length / 2; i++) {
    const share = band(judged.values[i]) / BANDS
    const end = share < 0 ? colours.drawn : colours.real
    context.fillStyle = css(
      colours.undecided.map((channel, c) => channel + (end[c] - channel) * Math.abs(share)) as Colour,
    )
    context.beginPath()
    context.arc(places[2 * i], places[2 * i + 1], radius, 0, 2 * Math.PI)
    context.fill()
    context.stroke()
  }
}

function paintArrows(context: CanvasRenderingContext2D, side: number, what: Scene, colours: Colours): void {
  const feet = pixelsOf(what.feet!, what.window, side)
  const count = thinned(feet.length / 2, side, Math.max(ROOM.arrow, side / ARROWS))
  const found = arrows(feet, what.arrows!, side, count)
  context.beginPath()
  for (let i = 0; i < found.length; i += 4) {
    context.moveTo(found[i], found[i + 1])
    context.lineTo(found[i + 2], found[i + 3])
  }
  context.strokeStyle = context.fillStyle = css(colours.ink, 0.8)
  context.lineWidth = 1
  context.stroke()
  context.beginPath()
  for (let i = 0; i < found.length; i += 4) head(context, found[i], found[i + 1], found[i + 2], found[i + 3])
  context.fill()
}

function head(context: CanvasRenderingContext2D, x: number, y: number, tipX: number, tipY: number): void {
  const length = Math.hypot(tipX - x, tipY - y)
  const long = Math.min(8, length / 2) / length
  const [backX, backY] = [(tipX - x) * long, (tipY - y) * long]
  context.moveTo(tipX, tipY)
  context.lineTo(tipX - backX - 0.4 * backY, tipY - backY + 0.4 * backX)
  context.lineTo(tipX - backX + 0.4 * backY, tipY - backY - 0.4 * backX)
}

function paintAxes(context: CanvasRenderingContext2D, side: number, window: Window, colours: Colours): void {
  context.fillStyle = css(colours.faint)
  context.font = '11px system-ui, sans-serif'
  const per = side / window.side
  const about = side < 300 ? 3 : 5
  context.textAlign = 'center'
  for (const x of ticks(window.left, window.side, about)) {
    const at = (x - window.left) * per
    context.fillRect(at - 0.5, side - 5, 1, 5)
    if (at > 30 && at < side - 14) context.fillText(String(x), at, side - 8)
  }
  context.textAlign = 'left'
  for (const y of ticks(window.low, window.side, about)) {
    const at = side - (y - window.low) * per
    context.fillRect(0, at - 0.5, 5, 1)
    if (at > 12 && at < side - 24) context.fillText(String(y), 8, at + 4)
  }
}

// Pictures that are painted aside: one canvas and one array of pixels for each size, used again and again.
const sheets = new Map<number, HTMLCanvasElement>()
const layersOf = new Map<number, ImageData>()

function canvasOf(size: number): HTMLCanvasElement {
  return kept(sheets, size, () => Object.assign(document.createElement('canvas'), { width: size, height: size }))
}

function layerOf(size: number): ImageData {
  const layer = kept(layersOf, size, () => new ImageData(size, size))
  layer.data.fill(0)
  return layer
}

function kept<T>(things: Map<number, T>, size: number, make: () => T): T {
  if (things.size > 8 && !things.has(size)) things.clear()
  if (!things.has(size)) things.set(size, make())
  return things.get(size)!
}

export function css([red, green, blue]: Colour, opacity = 1): string {
  return `rgb(${red | 0} ${green | 0} ${blue | 0} / ${opacity})`
}

const NAMES: Record<keyof Colours, [string, Colour]> = {
  real: ['--real', [25, 84, 140]],
  drawn: ['--drawn', [206, 70, 0]],
  saysReal: ['--says-real', [150, 195, 230]],
  saysDrawn: ['--says-drawn', [250, 204, 160]],
  undecided: ['--undecided', [252, 252, 250]],
  ink: ['--arrow', [32, 36, 42]],
  faint: ['--axis', [90, 97, 106]],
  line: ['--judge-line', [70, 76, 86]],
}

/** The colours of the theme an element stands in, from its CSS variables: `#rrggbb` or `rgb(…)`. */
export function coloursOf(element: Element): Colours {
  const style = getComputedStyle(element)
  const read = ([name, otherwise]: [string, Colour]) => parsed(style.getPropertyValue(name)) ?? otherwise
  return Object.fromEntries(Object.entries(NAMES).map(([key, name]) => [key, read(name)])) as unknown as Colours
}

export function parsed(text: string): Colour | null {
  const hex = /^\s*#([0-9a-f]{6})\s*$/i.exec(text)
  if (hex) return [0, 2, 4].map((at) => parseInt(hex[1].slice(at, at + 2), 16)) as Colour
  const numbers = text.match(/\d+(\.\d+)?/g)
  return numbers && numbers.length >= 3 ? (numbers.slice(0, 3).map(Number) as Colour) : null
}
