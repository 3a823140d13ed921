import { describe, expect, it } from 'vitest'
import { grown, MOST, nothing } from '../src/lib/series'

const measures = (js: number | null) => ({ step: 0, kl: null, js, modes: null, total: null, quality: null, gap: null })

describe('the curves', () => {
  it('have a row for each step, with nothing where nothing was told', () => {
    let series = grown(nothing(), 1, [{ terms: { 'D.adv': 0.5 }, measures: null }])
    series = grown(series, 2, [{ terms: { 'G.adv': 0.7 }, measures: measures(0.3) }])
    expect(series.step).toEqual([1, 2])
    expect(series.benches[0]['D.adv']).toEqual([0.5, null])
    expect(series.benches[0]['G.adv']).toEqual([null, 0.7])
    expect(series.benches[0].js).toEqual([null, 0.3])
  })
  it('have one row for frames of the same step, the last', () => {
    let series = nothing()
    for (const value of [1, 2, 3]) series = grown(series, 5, [{ terms: { 'D.adv': value }, measures: null }])
    expect(series.step).toEqual([5])
    expect(series.benches[0]['D.adv']).toEqual([3])
  })
  it('stay short however long it trains, with the first part kept and the newest row', () => {
    let series = nothing()
    for (let step = 1; step <= 20_000; step++) series = grown(series, step, [{ terms: { x: -step }, measures: null }])
    expect(series.step.length).toBeLessThanOrEqual(MOST)
    expect(series.step.length).toBeGreaterThan(MOST / 2 - 1)
    expect(series.step.at(-1)).toBe(20_000)
    expect(series.step[0]).toBeLessThan(20)
    expect(series.step.every((step, row) => series.benches[0].x[row] === -step && (row === 0 || step > series.step[row - 1]))).toBe(true)
  })
})
