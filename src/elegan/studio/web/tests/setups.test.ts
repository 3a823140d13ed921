import { describe, expect, it } from 'vitest'
import type { Bench, GameInfo, Setup } from '../src/lib/contract'
import { presetOf, sorted, typed, valueOf } from '../src/lib/setups'

const option = (name: string, value: number) => ({ name, type: 'int', choices: null, optional: false, default: value, help: '' })
const game: GameInfo = {
  name: 'gan', title: '', paper: '', players: ['D', 'G'],
  options: [option('odd', 1), option('k', 2), option('z_dim', 100)],
  presets: { ring: { z_dim: 4 }, vector: { z_dim: 8, k: 3 } },
} // prettier-ignore
const bench = (preset: string | null, options = {}): Bench => ({ game: 'gan', preset, options })
const on = (data: Setup['data']): Setup => ({ version: 1, data, benches: [], seed: 0, batch: null, half_life_images: null, trained: false })
const value = (one: Bench, setup: Setup, name: string) => valueOf(game, one, setup, game.options.find((o) => o.name === name)!)

describe('an option', () => {
  it('is what the bench says, else its preset, else its default', () => {
    const ring = on({ kind: 'preset', name: 'ring' })
    expect(value(bench('vector', { z_dim: 2 }), ring, 'z_dim')).toBe(2)
    expect(value(bench('vector'), ring, 'z_dim')).toBe(8)
    expect(value(bench('none'), ring, 'z_dim')).toBe(100)
    expect(value(bench('ring'), ring, 'k')).toBe(2)
  })
  it('follows the preset called like the data, else that of points, if none is named', () => {
    expect(presetOf(game, bench(null), on({ kind: 'preset', name: 'ring' }))).toBe('ring')
    expect(presetOf(game, bench(null), on({ kind: 'preset', name: 'moons' }))).toBe('vector')
    expect(presetOf(game, bench(null), on({ kind: 'csv', text: '' }))).toBe('vector')
    expect(presetOf(game, bench('none'), on({ kind: 'csv', text: '' }))).toBe('')
  })
  it('stands among the first if it matters, once, and is never lost', () => {
    const [first, others] = sorted(game)
    expect(first.map(({ name }) => name)).toEqual(['z_dim', 'k'])
    expect(others.map(({ name }) => name)).toEqual(['odd'])
  })
  it('takes the numbers that its type has', () => {
    expect([typed('12', 'int'), typed('1e-4', 'float'), typed(' 3 ', 'int')]).toEqual([12, 1e-4, 3])
    expect([typed('1.5', 'int'), typed('', 'float'), typed('x', 'float'), typed('Infinity', 'float')]).toEqual([null, null, null, null])
  })
})
