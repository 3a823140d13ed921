import { describe, expect, it } from 'vitest'
import {
  area,
  arrows,
  band,
  between,
  blurred,
  contour,
  density,
  pixels,
  place,
  sampled,
  thinned,
  ticks,
} from './geometry'

const window = { left: -2, low: -1, side: 4 }
const numbers = (values: number[], scale = 1) => ({ values, scale, shape: [values.length / 2, 2] })

describe('places and pixels', () => {
  it('puts the lower left corner below and the upper right one above, in units of the scale', () => {
    expect([...pixels(numbers([-4, -2, 4, 6, 0, 2], 0.5), window, 100)]).toEqual([0, 100, 100, 0, 50, 50])
  })
  it('finds the place at a pixel', () => {
    expect(place(0, 100, window, 100)).toEqual([-2, -1])
    expect(place(75, 0, window, 100)).toEqual([1, 3])
  })
})

describe('the surface', () => {
  it('is blurred by the binomial of three both ways, its sum kept inside', () => {
    const map = new Float32Array(25)
    map[12] = 16
    const found = blurred(map, 5)
    expect([...found.slice(5, 20)]).toEqual([0, 1, 2, 1, 0, 0, 2, 4, 2, 0, 0, 1, 2, 1, 0])
  })
  it('stays as it is where it is even, edges too', () => {
    expect([...blurred(new Float32Array(16).fill(7), 4)]).toEqual(new Array(16).fill(7))
  })
  it('is read between the centres of its cells, rows from above', () => {
    const map = [0, 10, 20, 30] // 2 × 2
    expect(sampled(map, 2, 0.25, 0.25)).toBe(0)
    expect(sampled(map, 2, 0.75, 0.25)).toBe(10)
    expect(sampled(map, 2, 0.25, 0.75)).toBe(20)
    expect(sampled(map, 2, 0.5, 0.5)).toBe(15)
    expect(sampled(map, 2, 0, 1)).toBe(20)
  })
  it('has the bands of the pictures of a run', () => {
    const verdicts = [0, 20, 64, 100, 120, 127.5, 130, 159.375, 200, 240, 255]
    expect(verdicts.map(band)).toEqual([-11, -10, -8, -5, -3, 0, 2, 5, 8, 10, 11]) // of numpy
  })
})

describe('the line of the undecided', () => {
  it('is straight, upright and in its place where a map rises evenly', () => {
    const n = 8
    const map = Float32Array.from({ length: n * n }, (_, i) => 127.5 + 20 * ((i % n) - 2.25))
    const found = contour(map, n)
    expect(found.length / 4).toBe(n - 1)
    for (let i = 0; i < found.length; i += 2) expect(found[i]).toBeCloseTo((2.25 + 0.5) / n, 5)
  })
  it('goes around a hill, all at one distance, and closes', () => {
    const n = 40
    const away = (i: number) => Math.hypot((i % n) - 19.5, Math.floor(i / n) - 19.5)
    const found = contour(
      Float32Array.from({ length: n * n }, (_, i) => 127.5 + 10 * (12 - away(i))),
      n,
    )
    const ends = new Map<string, number>()
    for (let i = 0; i < found.length; i += 2) {
      expect(Math.hypot(found[i] - 0.5, found[i + 1] - 0.5) * n).toBeCloseTo(12, 1)
      const key = `${found[i].toFixed(4)} ${found[i + 1].toFixed(4)}`
      ends.set(key, (ends.get(key) ?? 0) + 1)
    }
    expect(found.length / 4).toBeGreaterThan(60)
    expect(new Set(ends.values())).toEqual(new Set([2]))
  })
  it('keeps the corners of a saddle apart from the side its middle is on', () => {
    const [high, low] = [187.5, 117.5] // their mean is decided: real, as are the corners above left and below right
    const found = [...contour([high, low, low, high], 2)].map((x) => x * 2 - 0.5)
    const cuts = [found.slice(0, 4), found.slice(4)]
    const near = (cut: number[], x: number, y: number) =>
      Math.hypot((cut[0] + cut[2]) / 2 - x, (cut[1] + cut[3]) / 2 - y) < 0.3
    expect(cuts.some((cut) => near(cut, 1, 0)) && cuts.some((cut) => near(cut, 0, 1))).toBe(true)
    const turned = [...contour([low, high, high, low], 2)].map((x) => x * 2 - 0.5)
    const others = [turned.slice(0, 4), turned.slice(4)]
    expect(others.some((cut) => near(cut, 0, 0)) && others.some((cut) => near(cut, 1, 1))).toBe(true)
  })
  it('is not drawn where the map says nothing', () => {
    expect(
      contour(
        Float32Array.from({ length: 64 }, (_, i) => 127.5 + (i % 2 ? 0.1 : -0.1)),
        8,
      ).length,
    ).toBe(0)
  })
})

describe('the manifold', () => {
  const grid = (f: (x: number, y: number) => [number, number]) =>
    Float32Array.from([0, 1, 2].flatMap((y) => [0, 1, 2].flatMap((x) => f(x, y))))
  it('is of density 1 where it covers the picture evenly', () => {
    expect([
      ...density(
        grid((x, y) => [x * 50, y * 50]),
        3,
        100,
      ),
    ]).toEqual([1, 1, 1, 1])
  })
  it('is as many times denser as its cells are smaller', () => {
    const found = density(
      grid((x, y) => [x * x * 25, y * 10]),
      3,
      100,
    ) // widths 25 and 75, heights 10
    expect([...found].map((v) => +v.toFixed(4))).toEqual([10, 3.3333, 10, 3.3333])
  })
  it('knows a fold by its sign', () => {
    const folded = grid((x, y) => [x === 2 ? 0 : x * 50, y * 50])
    expect(Math.sign(area(folded, 3, 0))).toBe(1)
    expect(area(folded, 3, 1)).toBe(-2500)
    expect(density(folded, 3, 100)[1]).toBe(1)
  })
  it('of a morph lies between its two ends', () => {
    expect([...between(Float32Array.of(0, 10), Float32Array.of(10, 20), 0.25)]).toEqual([2.5, 12.5])
  })
})

describe('arrows', () => {
  const feet = Float32Array.of(10, 10, 50, 50, 70, 70)
  it('go by the root of their length, the longest a seventh of the side, up as y grows', () => {
    const found = arrows(feet, numbers([0, 4, 1, 0, 0, 0]), 140, 3)
    expect([...found].map((v) => +v.toFixed(3))).toEqual([10, 10, 10, -10, 50, 50, 60, 50])
  })
  it('leaves out the shortest, and all where nothing pulls', () => {
    expect(arrows(feet, numbers([0, 4, 0.0001, 0, 0, 0]), 140, 3).length).toBe(4)
    expect(arrows(feet, numbers([0, 0, 0, 0, 0, 0]), 140, 3).length).toBe(0)
  })
  it('takes the first so many', () => {
    expect(arrows(feet, numbers([0, 4, 3, 0, 5, 0]), 140, 1).length).toBe(4)
  })
})

it('thins to one in each square of its room, but keeps a few', () => {
  expect(thinned(1024, 600, 30)).toBe(400)
  expect(thinned(100, 600, 30)).toBe(100)
  expect(thinned(1024, 60, 30)).toBe(16)
})

it('has round ticks within the window', () => {
  expect(ticks(-1.3, 2.6, 5)).toEqual([-1, -0.5, 0, 0.5, 1])
  expect(ticks(0.1, 0.25, 4)).toEqual([0.1, 0.15, 0.2, 0.25, 0.3, 0.35])
  expect(ticks(0.07, 0.04, 4)).toEqual([0.07, 0.08, 0.09, 0.1, 0.11]) // .07 / .01 is a little more than 7
  expect(ticks(-1e4, 3e4, 3)).toEqual([-10000, 0, 10000, 20000])
})
