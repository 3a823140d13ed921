import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { Setup } from '../src/lib/contract'
import { fromHash, MARK, toHash } from '../src/lib/share'

const setup: Setup = {
  version: 1,
  data: { kind: 'equation', x: 'sin(2*pi*t)', y: '“π” 中文', spread: 0.02, samples: 10_000 },
  benches: [{ game: 'gan', preset: null, options: { widths: [10, 10], lr: 2e-4 } }],
  seed: 7,
  batch: null,
  half_life_images: null,
  trained: false,
}
const shared = { setup, layers: { real: true, drawn: true, surface: false, manifold: true, arrows: false }, average: false }

describe('a link', () => {
  it('holds setup and view, deflated, in letters that links carry', async () => {
    const hash = (await toHash(shared))!
    expect(hash).toMatch(/^#lab=[\w-]+$/)
    const inflated = inflateRawSync(Buffer.from(hash.slice(MARK.length), 'base64url')).toString()
    expect(JSON.parse(inflated)).toEqual(shared)
    expect(await fromHash(hash)).toEqual(shared)
  })
  it('is not made of what is too large for one', async () => {
    const text = Array.from({ length: 40_000 }, (_, k) => Math.sin(k)).join('\n')
    expect(await toHash({ ...shared, setup: { ...setup, data: { kind: 'csv', text } } })).toBeNull()
  })
  it('is nothing when it is damaged, cut, of another kind, or a bomb', async () => {
    const hash = (await toHash(shared))!
    const packed = (text: string) => MARK + deflateRawSync(text).toString('base64url')
    const bomb = packed(JSON.stringify(shared) + ' '.repeat(64 << 20)) // 64 MB that would read
    for (const bad of ['', '#plane', MARK, `${MARK}!!!`, hash.slice(0, -9), packed('null'), packed('{"setup":5}'), bomb]) {
      expect(await fromHash(bad)).toBeNull()
    }
  })
})
