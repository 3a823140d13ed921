import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'svelte/compiler'
import { describe, expect, it } from 'vitest'
import { t, TABLE } from '../src/lib/strings'

const SOURCES = readdirSync('src', { recursive: true, encoding: 'utf-8' })
  .filter((name) => /\.(svelte|ts)$/.test(name) && !name.endsWith('.test.ts'))
  .map((name) => ({ name, text: readFileSync(join('src', name), 'utf-8') }))
const COMPONENTS = SOURCES.filter(({ name }) => name.endsWith('.svelte'))
const SPOKEN = ['aria-label', 'title', 'placeholder', 'alt', 'aria-valuetext', 'label']
const words = (text: string) => /\p{L}/u.test(text)

/** Texts and spoken attributes that stand in a component as they are. */
function literals(node: unknown, found: string[] = []): string[] {
  if (Array.isArray(node)) node.forEach((one) => literals(one, found))
  else if (node && typeof node === 'object') {
    const { type, name, value, data } = node as { type?: string; name?: string; value?: unknown; data?: string }
    if (type === 'Text' && words(data ?? '')) found.push(data!.trim())
    if (type === 'Literal' && typeof value === 'string' && /\p{L}+ \p{L}+/u.test(value)) found.push(value)
    if (type === 'Attribute' && !SPOKEN.includes(name!)) return found // classes, ids and the like
    if (type === 'Attribute') literals(value, found)
    else if (type !== 'StyleDirective') Object.values(node).forEach((one) => literals(one, found))
  }
  return found
}

describe('the table of strings', () => {
  it.each(Object.entries(TABLE))('has %s in both languages, with the same places', (_, [en, zh]) => {
    expect(en.trim()).not.toBe('')
    expect(zh.trim()).not.toBe('')
    const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort()
    expect(places(zh)).toEqual(places(en))
  })
  it('is in Chinese where it is in words', () => {
    const same = Object.entries(TABLE).filter(([, [en, zh]]) => words(en) && !/\p{Script=Han}/u.test(zh))
    const names = ['locale', 'page.other', 'copy.python', 'copy.json', 'data.csv', 'csv.example', 'game.paper', 'equation.x', 'equation.y', 'tour.number'] // prettier-ignore
    expect(same.map(([key]) => key).filter((key) => !names.includes(key))).toEqual([])
  })
  it('fills its places, also with what looks like a pattern', () => {
    expect(t('timeline.at', { step: 3, of: '$&' })).toBe('Round 3 of $&')
  })
  it('has every key that is asked for by name', () => {
    const asked = SOURCES.flatMap(({ text }) => [...text.matchAll(/\bt\(\s*'([\w.-]+)'/g)].map(([, key]) => key))
    expect(asked.length).toBeGreaterThan(100)
    expect(asked.filter((key) => !(key in TABLE))).toEqual([])
  })
  it('has a family for every key that is put together', () => {
    const stems = SOURCES.flatMap(({ text }) => [...text.matchAll(/\bt\(\s*`([\w.]+\.)\$\{/g)].map(([, stem]) => stem))
    expect(stems.filter((stem) => !Object.keys(TABLE).some((key) => key.startsWith(stem)))).toEqual([])
  })
})

describe('components', () => {
  it.each(COMPONENTS.map(({ name, text }) => [name, text]))('%s holds no words of its own', (_, text) => {
    expect(literals(parse(text, { modern: true }).fragment)).toEqual([])
  })
})
