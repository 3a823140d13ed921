import { describe, expect, it } from 'vitest'
import type { Frame, Opened } from '../contract'
import { stamp } from './dots'
import { palette, parsed, raster, scene, type Colours, type Opening, type Shot } from './plane'
import { grid, histogram, quantile, sparkline } from './thumbs'

const colours: Colours = {
  real: [25, 84, 140],
  drawn: [206, 70, 0],
  saysReal: [150, 195, 230],
  saysDrawn: [250, 204, 160],
  undecided: [252, 252, 250],
  ink: [0, 0, 0],
  faint: [0, 0, 0],
  line: [0, 0, 0],
}
const bytes = (word: number) => [word & 255, (word >> 8) & 255, (word >> 16) & 255]

describe('dots', () => {
  it('cover the area of a disc at their opacity', () => {
    const size = 40
    const pixels = new Uint8ClampedArray(4 * size * size)
    stamp(pixels, size, Float32Array.of(20.3, 19.6), 1, 8, [200, 10, 20], 0.5)
    let covered = 0
    for (let i = 3; i < pixels.length; i += 4) covered += pixels[i] / 255
    expect(covered).toBeCloseTo(0.5 * Math.PI * 64, -0.4) // to within 1.25 of 100.5
    expect([...pixels.slice(4 * (20 * size + 20), 4 * (20 * size + 20) + 4)]).toEqual([200, 10, 20, 128])
  })
  it('lie over each other as layers do', () => {
    const pixels = new Uint8ClampedArray(4 * 9)
    stamp(pixels, 3, Float32Array.of(1.5, 1.5), 1, 1.5, [0, 0, 0], 0.5)
    stamp(pixels, 3, Float32Array.of(1.5, 1.5), 1, 1.5, [255, 0, 0], 0.5)
    const [red, , , alpha] = pixels.slice(16)
    expect(alpha / 255).toBeCloseTo(0.75, 1.9)
    expect(red).toBeCloseTo(255 * (2 / 3), -0.5) // .5 of red over .25 of black, of .75 in all
  })
  it('stay within the picture, and those outside or unknown are not there', () => {
    const pixels = new Uint8ClampedArray(4 * 16)
    stamp(pixels, 4, Float32Array.of(-9, 2, NaN, 2, 2, 99), 3, 2, [1, 1, 1], 1)
    expect(pixels.some(Boolean)).toBe(false)
    stamp(pixels, 4, Float32Array.of(0, 0), 1, 2, [1, 1, 1], 1)
    expect(pixels[3]).toBe(255)
    expect(pixels[4 * 3 + 3]).toBe(0) // the end of the first row
    const right = new Uint8ClampedArray(4 * 16)
    stamp(right, 4, Float32Array.of(3.6, 0.5), 1, 0.6, [1, 1, 1], 1)
    expect([right[4 * 3 + 3] > 0, right[4 * 4 + 3]]).toEqual([true, 0]) // it does not come in again at the left
  })
})

describe('the palette', () => {
  it('goes from drawn over undecided to real, as the pictures of a run', () => {
    const found = palette(colours)
    expect(bytes(found[0])).toEqual([250, 204, 160])
    expect(bytes(found[510])).toEqual([252, 252, 250])
    expect(bytes(found[1020])).toEqual([150, 195, 230])
    expect(bytes(found[4 * 64])).toEqual([250, 217, 184]) // band 8 of 11: 252 − 48 × 8/11 = 217.1
  })
  it('colours an enlarged map by where its cells lie', () => {
    const out = new Uint32Array(16)
    raster(
      out,
      4,
      Float32Array.of(0, 255, 0, 255),
      2,
      Uint32Array.from({ length: 1021 }, (_, i) => i),
    )
    expect([...out.slice(0, 4)]).toEqual([0, 255, 765, 1020]) // centres at 0, ¼, ¾, 1 of the way
    expect([...out.slice(12)]).toEqual([0, 255, 765, 1020])
    raster(
      out,
      4,
      Float32Array.of(0, 0, 255, 255),
      2,
      Uint32Array.from({ length: 1021 }, (_, i) => i),
    )
    expect([out[0], out[4], out[8], out[12]]).toEqual([0, 255, 765, 1020])
  })
  it('reads the colours that style sheets have', () => {
    expect(parsed(' #19548c')).toEqual([25, 84, 140])
    expect(parsed('rgb(25 84 140)')).toEqual([25, 84, 140])
    expect(parsed('rgb(25, 84, 140)')).toEqual([25, 84, 140])
    expect(parsed('')).toBeNull()
  })
})

describe('a scene', () => {
  const some = { values: [1], scale: 1, shape: [1] }
  const names = [
    'fake',
    'surface',
    'arrows',
    'manifold',
    'batch_real',
    'batch_fake',
    'batch_judged_real',
    'batch_judged_fake',
    'batch_arrows',
  ]
  const arrays = Object.fromEntries(names.map((name, i) => [`1/${name}`, { ...some, values: [i] }]))
  const opened: Opening = { head: { window: { left: 0, low: 0, side: 1 } } as Opened, arrays: {} }
  const all = { real: true, drawn: true, surface: true, manifold: true, arrows: true }
  const shot = (stage: string | null): Shot => ({
    head: { stage: stage && { name: stage } } as unknown as Frame,
    arrays,
  })
  const at = (name: string) => arrays[`1/${name}`]

  it('holds the layers that are on, of its own bench', () => {
    expect(scene(opened.head, some, 1, shot(null), all)).toMatchObject({
      real: some,
      drawn: at('fake'),
      feet: at('fake'),
      arrows: at('arrows'),
      surface: at('surface'),
      manifold: at('manifold'),
    })
    const none = scene(opened.head, some, 1, shot(null), {
      real: false,
      drawn: false,
      surface: false,
      manifold: false,
      arrows: false,
    })
    expect(Object.values(none).filter(Boolean)).toEqual([opened.head.window])
    expect(scene(opened.head, some, 0, shot(null), all).drawn).toBeUndefined()
  })
  it('holds the data alone before a frame has come', () => {
    expect(scene(opened.head, some, 0, null, all)).toEqual({ window: opened.head.window, real: some })
  })
  it('of a stage holds the batch of the move, then what was said of it, then where it is pulled', () => {
    const [drawn, judged, pulled, done] = ['draw', 'judge', 'gradient', 'update'].map((name) =>
      scene(opened.head, some, 1, shot(name), all),
    )
    expect(drawn).toMatchObject({
      real: at('batch_real'),
      drawn: at('batch_fake'),
      judgedReal: undefined,
      arrows: undefined,
    })
    expect(judged).toMatchObject({
      judgedReal: at('batch_judged_real'),
      judgedDrawn: at('batch_judged_fake'),
      arrows: undefined,
    })
    expect(pulled).toMatchObject({ feet: at('batch_fake'), arrows: at('batch_arrows') })
    expect(done).toMatchObject({ real: some, drawn: at('fake') })
  })
})

describe('small pictures', () => {
  it('know the quantiles of the normal distribution', () => {
    const known = { [0.5 / 21]: -1.98075, 0.2: -0.841621, 0.5: 0, 0.9: 1.281552 }
    for (const [p, z] of Object.entries(known)) expect(quantile(Number(p))).toBeCloseTo(z, 4)
  })
  it('lay the noise of a manifold out evenly, or by equal mass, its second number upwards', () => {
    const square = { values: [], scale: 1, shape: [3, 3, 2] }
    const even = grid(square, 'uniform', 110)
    expect([...even.slice(0, 6)].map(Math.round)).toEqual([5, 105, 55, 105, 105, 105]) // ±1 of a square of ±1.1
    expect(Math.round(even[17])).toBe(5)
    const normal = grid(square, 'normal', 540)
    expect(normal[0]).toBeCloseTo(270 - 100 * 0.967422, 1) // the sixth of the mass
    const line = grid({ ...square, shape: [3, 2] }, 'uniform', 110)
    expect([...line].map(Math.round)).toEqual([5, 55, 55, 55, 105, 55])
  })
  it('count verdicts from surely drawn to surely real', () => {
    const found = histogram({ values: [0, 0, 255, 128], scale: 1, shape: [4] })
    expect([found[0], found[6], found[11]]).toEqual([0.5, 0.25, 0.25])
    expect(histogram(undefined)).toEqual(new Array(12).fill(0))
  })
  it('draw a curve from its least, below, to its greatest, above', () => {
    expect(sparkline([1, 3, 2], 100, 30)).toBe('M0.0 28.0L50.0 2.0L100.0 15.0')
    expect(sparkline([1], 100, 30)).toBe('')
    expect(sparkline([NaN, 1, 1], 10, 30)).not.toContain('NaN')
  })
})
