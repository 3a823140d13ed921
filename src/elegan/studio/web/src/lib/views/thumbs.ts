// The small pictures in a game's graph, and the way of its noise to its samples.

import { between, pixels, type Numbers, type Window } from './geometry'
import { css, paint, type Colours, type Opening, type Scene, type Shot } from './plane'

const BINS = 12
const REACH = { normal: 2.7, uniform: 1.1 } // half a side of the square of noise that is shown
const NOTHING: Scene = { window: { left: 0, low: 0, side: 1 } }

export type Pen = (context: CanvasRenderingContext2D, side: number, ratio: number, colours: Colours) => void

/** Points of the plane: `what` names those of a frame, as the contract does. */
export function points(
  opened: Opening,
  frame: Shot | null,
  bench: number,
  what: 'real' | 'drawn' | 'surface' | 'manifold',
): Pen {
  const of = (name: string) => frame?.arrays[`${bench}/${name}`]
  const window = opened.head.window
  const batch = frame?.head.stage ? of('batch_fake') : undefined
  const scene: Scene = {
    real: { window, real: (frame?.head.stage && of('batch_real')) || opened.arrays.real },
    drawn: {
      window,
      drawn: batch ?? of('fake'),
      feet: batch ?? of('fake'),
      arrows: batch ? of('batch_arrows') : of('arrows'),
    },
    surface: { window, surface: of('surface') },
    manifold: { window, manifold: of('manifold') },
  }[what]
  return (context, side, ratio, colours) => paint(context, side, ratio, scene, colours, true)
}

/** The noise that samples are drawn from, in one or two dimensions. */
export function noise(frame: Shot | null, bench: number, prior: 'normal' | 'uniform'): Pen {
  const found = frame?.arrays[`${bench}/noise`]
  const window = { left: -REACH[prior], low: -REACH[prior], side: 2 * REACH[prior] }
  const scene: Scene = { window, drawn: found && plain(found) }
  return (context, side, ratio, colours) =>
    paint(context, side, ratio, scene, { ...colours, drawn: colours.faint }, true)
}

/** Noise (n, 1) as points on the middle line, (n, 2) as they are. */
function plain(noise: Numbers): Numbers {
  if (noise.shape[1] !== 1) return noise
  const values = new Float32Array(2 * noise.shape[0])
  for (let i = 0; i < noise.shape[0]; i++) values[2 * i] = noise.values[i] * noise.scale
  return { values, scale: 1, shape: [noise.shape[0], 2] }
}

/** How often the judge said what: of real points upwards, of drawn ones downwards; from surely drawn to surely real. */
export function verdicts(frame: Shot | null, bench: number): Pen {
  const of = (name: string) => frame?.arrays[`${bench}/${name}`]
  const batch = of('batch_judged_fake')
  const [real, drawn] = [batch ? of('batch_judged_real') : of('judged_real'), batch ?? of('judged')].map(histogram)
  const most = Math.max(...real, ...drawn, 0.01)
  return (context, side, ratio, colours) => {
    paint(context, side, ratio, NOTHING, colours, true)
    const [wide, middle] = [side / BINS, side / 2]
    for (let k = 0; k < BINS; k++) {
      context.fillStyle = css(colours.real)
      context.fillRect(k * wide + 0.5, middle - 0.5, wide - 1, (-real[k] / most) * (middle - 3))
      context.fillStyle = css(colours.drawn)
      context.fillRect(k * wide + 0.5, middle + 0.5, wide - 1, (drawn[k] / most) * (middle - 3))
    }
    context.fillStyle = css(colours.faint, 0.7)
    context.fillRect(0, middle - 0.5, side, 1)
    context.fillRect(side / 2 - 0.5, 0, 1, side)
  }
}

/** The shares of verdicts in [0, 255] in `BINS` equal bins. */
export function histogram(judged: Numbers | undefined): number[] {
  const found = new Array<number>(BINS).fill(0)
  const n = judged?.values.length ?? 0
  for (let i = 0; i < n; i++) found[Math.min(Math.floor((judged!.values[i] / 256) * BINS), BINS - 1)] += 1 / n
  return found
}

/** A line through the newest values, as the path of an SVG of so many units; empty for fewer than two. */
export function sparkline(values: number[], width: number, height: number): string {
  const finite = values.filter(Number.isFinite)
  if (finite.length < 2) return ''
  const [low, high] = [Math.min(...finite), Math.max(...finite)]
  const y = (v: number) => height - 2 - ((v - low) / (high - low || 1)) * (height - 4)
  return finite
    .map((v, i) => `${i ? 'L' : 'M'}${((i * width) / (finite.length - 1)).toFixed(1)} ${y(v).toFixed(1)}`)
    .join('')
}

/** The noise that the generator's manifold was drawn from, laid out over the window of the data, as pixels. */
export function grid(manifold: Numbers, prior: 'normal' | 'uniform', side: number): Float32Array {
  const flat = manifold.shape.length === 2
  const n = manifold.shape[0]
  const line = Array.from({ length: n }, (_, i) => {
    const value = prior === 'normal' ? quantile((i + 0.5) / n) : (2 * i) / (n - 1) - 1
    return (value / REACH[prior] / 2 + 0.5) * side
  })
  const found = new Float32Array(flat ? 2 * n : 2 * n * n)
  for (let i = 0; i < found.length / 2; i++) {
    found[2 * i] = line[i % n]
    found[2 * i + 1] = flat ? side / 2 : side - line[Math.floor(i / n)]
  }
  return found
}

/** The number that a normal one is below with probability p in (0, 1), by bisection of its distribution. */
export function quantile(p: number): number {
  let [low, high] = [-6, 6]
  while (high - low > 1e-6) {
    const middle = (low + high) / 2
    if (normal(middle) < p) low = middle
    else high = middle
  }
  return (low + high) / 2
}

/** The normal distribution function (Abramowitz and Stegun 1964, 26.2.17); to within 7.5e-8. */
function normal(x: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(x))
  const powers = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
  const tail = (Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)) * powers
  return x > 0 ? 1 - tail : tail
}

/** A scene in which noise has gone `share` of its way to what the generator makes of it. */
export function morph(opened: Opening, frame: Shot, bench: number, prior: 'normal' | 'uniform', share: number): Pen {
  const [manifold, fake, z] = ['manifold', 'fake', 'noise'].map((name) => frame.arrays[`${bench}/${name}`])
  const window = opened.head.window
  return (context, side, ratio, colours) => {
    const pane = (places: Float32Array, shape: number[]): Numbers => ({ values: places, scale: 1, shape })
    const unit: Window = { left: 0, low: -side, side } // pixels downwards, as numbers upwards
    const upright = (places: Float32Array) => places.map((v, i) => (i % 2 ? -v : v))
    const scene: Scene = { window: unit }
    if (manifold) {
      const places = between(grid(manifold, prior, side), pixels(manifold, window, side), share)
      scene.manifold = pane(upright(places), manifold.shape)
    }
    if (fake && z) {
      const square = { left: -REACH[prior], low: -REACH[prior], side: 2 * REACH[prior] }
      const places = between(pixels(plain(z), square, side), pixels(fake, window, side), share)
      scene.drawn = pane(upright(places), fake.shape)
    }
    paint(context, side, ratio, scene, colours, true)
  }
}
