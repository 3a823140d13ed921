import { describe, expect, it } from 'vitest'
import type { BenchInfo, Frame, Stage, StageName } from '../contract'
import { panels, worded } from './charts'
import { centre, layout, lit, lossOf, type Box, type Part } from './graph'
import { TABLE } from '../strings'
import type { Shot } from './plane'
import { figures, sentence } from './stage'
import { beside, STOPS, told } from './tour'

const info = (...names: string[]): BenchInfo => ({
  game: 'gan',
  options: {},
  rates: {},
  live: [],
  z_dim: 2,
  prior: 'normal',
  judged: names.includes('D'),
  players: names.map((name) => ({ name, layers: [], rate: '' })),
})
const NAMES: StageName[] = ['draw', 'judge', 'loss', 'gradient', 'update']
const stage = (player: string, name: StageName): Stage => ({
  player,
  name,
  number: NAMES.indexOf(name) + 1,
  of: 5,
  move: 1,
  moves: 1,
})

describe('the graph', () => {
  const apart = (a: Box, b: Box) =>
    a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y
  for (const players of [
    ['D', 'G'],
    ['E', 'G'],
    ['D', 'E', 'G'],
    ['D', 'G', 'Q'],
  ]) {
    for (const width of [320, 480, 560, 760, 1000, 2400]) {
      it(`of ${players} fits on ${width} pixels, no part over another`, () => {
        const { boxes, height, edges } = layout(width, info(...players))
        const all = Object.values(boxes)
        for (const box of all) {
          expect(box.x).toBeGreaterThanOrEqual(0)
          expect(box.x + box.width).toBeLessThanOrEqual(width + 0.01)
          expect(box.y).toBeGreaterThanOrEqual(16)
          expect(box.y + box.height).toBeLessThanOrEqual(height + 0.01)
        }
        const worded = all.map((box) => ({ ...box, y: box.y - 16, height: box.height + 16 })) // with the words above
        worded.forEach((a, i) => worded.slice(i + 1).forEach((b) => expect(apart(a, b)).toBe(true)))
        expect(edges.every(({ path }) => /^M[-\d. C]+$/.test(path))).toBe(true)
        expect('D' in boxes).toBe(players.includes('D'))
      })
    }
  }

  it('lights only what is there, and the part that wears the number', () => {
    const { boxes, edges } = layout(900, info('D', 'G'))
    const there = new Set([...Object.keys(boxes), ...edges.map((e) => `${e.from}${e.back ? '<' : '>'}${e.to}`)])
    for (const player of ['D', 'G']) {
      for (const name of NAMES) {
        const found = lit(stage(player, name), player === 'D')
        expect(found.has(centre(stage(player, name)))).toBe(true)
        const parts = [...found].filter((key) => !/[<>]/.test(key))
        expect(parts.every((part) => part in boxes)).toBe(true)
        expect([...found].some((key) => there.has(key))).toBe(true)
      }
    }
  })
  it('has the gradient run to the generator in its turn only', () => {
    expect(lit(stage('G', 'gradient'), false).has('drawn<G')).toBe(true)
    expect(lit(stage('D', 'gradient'), true).has('drawn<G')).toBe(false)
    expect(centre(stage('D+Q', 'update'))).toBe<Part>('D')
    expect(centre(stage('E+G', 'update'))).toBe<Part>('G')
    expect(centre(stage('D+G', 'update'))).toBe<Part>('G')
  })
  it('knows the loss of a player by its terms', () => {
    const terms = { 'D.adv': 0.5, 'D.r1': 2, 'D.grad': 9, 'D.real': 3, 'E+G.rec': 1, 'E+G.kl': 2, 'E+G.grad': 7 }
    expect(lossOf(terms, 'D')).toBe(0.5)
    expect(lossOf(terms, 'G')).toBe(3)
    expect(lossOf({ 'D+Q.adv': 1 }, 'D')).toBe(1)
    expect(lossOf({ 'D.wasserstein': 1, 'D.gp': 2, 'D.real': 4, 'D.fake': 8, 'D.right': 16, 'D.grad': 32 }, 'D')).toBe(
      3,
    )
    expect(lossOf({}, 'G')).toBeNull()
  })
})

describe('the charts', () => {
  const series = (...benches: Record<string, (number | null)[]>[]) => ({ step: [1, 2], benches })
  it('show each player its loss, its gradient and what the judge says', () => {
    const found = panels(
      series({
        'D.adv': [1, 2],
        'D.r1': [1, 1],
        'D.grad': [3, 3],
        'G.adv': [1, 1],
        'G.grad': [1, 1],
        'D.real': [0, 0],
        'D.fake': [0, 0],
      }),
      8,
    )
    const lines = Object.fromEntries(
      found.map(({ key, lines }) => [key, lines.map(({ column, hue }) => `${column} ${hue}`)]),
    )
    expect(lines).toEqual({
      losses: ['D.adv judge', 'G.adv generator'],
      verdict: ['D.real real', 'D.fake drawn'],
      gradients: ['D.grad judge', 'G.grad generator'],
    })
  })
  it('leave out measures that nobody took, and tell benches apart by their dashes', () => {
    const found = panels(series({ js: [null, 0.1], kl: [null, null] }, { js: [0.2, 0.3] }), 8)
    expect(found.map(({ key }) => key)).toEqual(['js'])
    expect(new Set(found[0].lines.map(({ dash }) => dash.join())).size).toBe(2)
  })
  it('give modes as a share of those there are, and say them as a count', () => {
    const [line] = panels(series({ modes: [3, 8] }), 8)[0].lines
    expect(line.per).toBe(8)
    expect(worded(3, line)).toBe('3 / 8')
    expect(worded(null, line)).toBe('–')
    expect(worded(0.987, { ...line, column: 'quality' })).toBe('99 %')
    expect(worded(0.00001234, { ...line, column: 'js' })).toBe('1.2e-5')
    expect(worded(0, { ...line, column: 'js' })).toBe('0.00')
  })
  it('of a game without a judge show one loss', () => {
    const [panel] = panels(series({ 'E+G.rec': [1, 2], 'E+G.grad': [1, 2] }), 0)
    expect(panel.lines.map(({ column, hue }) => [column, hue])).toEqual([['E+G.rec', 'generator']])
    expect(panels(series({ 'D+G.rec': [1, 2] }), 0)[0].lines.length).toBe(1)
  })
})

describe('stages', () => {
  it('speak of the judge, of the generator, or of players without a judge', () => {
    expect(sentence(stage('D+Q', 'loss'), info('D', 'G', 'Q'))).toBe('stage.D.loss')
    expect(sentence(stage('G', 'loss'), info('D', 'G'))).toBe('stage.G.loss')
    expect(sentence(stage('E+G', 'loss'), info('E', 'G'))).toBe('stage.E.loss')
  })
  it('say the figures that belong to them, if they are known', () => {
    const judged = { values: Uint8Array.of(255, 0, 51), scale: 1, shape: [3] } // 40 % in the mean
    const frame = {
      head: { benches: [{ figures: { adv: 0.6931, r1: 0.01, real: 3, right: 0.5, moved: 0.0012 } }] },
      arrays: { '0/batch_judged_fake': judged },
    } as unknown as Shot
    const said = (name: StageName) =>
      figures(stage('D', name), 0, frame).map(({ key, name, value }) => [key || name, value])
    expect(said('draw')).toEqual([])
    expect(said('judge')).toEqual([['stage.figure.fake', '40 %']])
    expect(said('loss').slice(0, 2)).toEqual([
      ['stage.figure.adv', '0.693'],
      ['r1', '0.0100'],
    ])
    expect(said('loss').map(([key]) => key)).not.toContain('real')
    expect(said('gradient')).toEqual([])
    expect(said('update')).toEqual([['stage.figure.moved', '0.00120']])
  })
})

describe('the tour', () => {
  const frame = (bench: object): Frame => ({ benches: [bench] }) as unknown as Frame
  const measures = { modes: 3, total: 8, js: 0.456 }
  const stop = (key: string) => STOPS.find((one) => one.key === key)!
  it('begins with data, then cures the collapse it provokes, live', () => {
    expect(STOPS[0].enter?.[0]).toMatchObject({ do: 'open', setup: { data: { name: 'ring' } } })
    const [collapse, cure] = [stop('collapse'), stop('cure')]
    expect(STOPS.indexOf(cure)).toBe(STOPS.indexOf(collapse) + 1)
    expect(collapse.enter?.[0]).toMatchObject({
      do: 'open',
      setup: { benches: [{ options: { loss: 'minimax', k: 5 } }] },
    })
    expect(cure.act?.[0]).toEqual({ do: 'change', bench: 0, change: { gamma: 0.1 } })
  })
  it('tells of modes, and of what the lab warns of', () => {
    expect(told(stop('play'), frame({ alarms: [], measures }))).toEqual({
      key: 'tour.modes',
      values: { modes: 3, total: 8, js: '0.46' },
    })
    const alarm = { name: 'collapse', step: 2000, why: 'the samples have become alike', remedy: '' }
    expect(told(stop('collapse'), frame({ alarms: [alarm], measures }))?.values).toEqual({ step: 2000, why: alarm.why })
    const sure = { ...alarm, name: 'overpowering', why: 'the judge is sure' }
    expect(told(stop('collapse'), frame({ alarms: [sure, alarm], measures }))?.values.why).toBe(alarm.why)
    expect(told(stop('collapse'), frame({ alarms: [sure], measures }))?.values.why).toBe(sure.why)
    expect(told(stop('collapse'), frame({ alarms: [], measures }))?.key).toBe('tour.modes')
    expect(told(stop('play'), frame({ alarms: [alarm], measures }))?.key).toBe('tour.modes')
    expect(told(stop('data'), frame({ alarms: [alarm], measures }))).toBeNull()
    expect(told(stop('play'), null)).toBeNull()
  })
  it('puts its card beside what it speaks of, and never outside the view', () => {
    const card = { width: 300, height: 200 }
    const view = { width: 1000, height: 700 }
    expect(beside({ left: 0, top: 50, right: 500, bottom: 550 }, card, view)).toEqual({ left: 514, top: 50 })
    expect(beside({ left: 500, top: 50, right: 990, bottom: 550 }, card, view)).toEqual({ left: 186, top: 50 })
    expect(beside({ left: 0, top: 0, right: 1000, bottom: 300 }, card, view)).toEqual({ left: 14, top: 314 })
    expect(beside({ left: 0, top: 400, right: 1000, bottom: 700 }, card, view)).toEqual({ left: 14, top: 186 })
    expect(beside({ left: 0, top: 0, right: 1000, bottom: 700 }, card, view)).toEqual({ left: 14, top: 486 })
    expect(beside({ left: 700, top: 690, right: 990, bottom: 1400 }, card, view).top).toBeLessThanOrEqual(486)
  })
})

it('has words for every part, line, stage and stop', () => {
  const parts = Object.keys(layout(900, info('D', 'G')).boxes).map((part) => `graph.${part}`)
  const terms = { 'D.adv': [1], 'D.grad': [1], 'D.real': [1], 'D.fake': [1], 'G.adv': [1], 'G.grad': [1] }
  const measured = { js: [1], kl: [1], modes: [1], quality: [1] }
  const charts = panels({ step: [1], benches: [{ ...terms, ...measured }] }, 8)
  const lines = charts.flatMap(({ key, lines }) => [`chart.${key}`, ...lines.map(({ name }) => `chart.${name}`)])
  const stages = ['D', 'G', 'E'].flatMap((side) => NAMES.map((name) => `stage.${side}.${name}`))
  const figured = ['adv', 'grad', 'moved', 'real', 'fake'].map((name) => `stage.figure.${name}`)
  const stops = STOPS.flatMap(({ key, act }) =>
    ['title', 'text', ...(act ? ['act'] : [])].map((word) => `tour.${key}.${word}`),
  )
  const all = [...parts, ...lines, ...stages, ...NAMES.map((name) => `stage.name.${name}`), ...figured, ...stops]
  expect(charts.length).toBe(6)
  expect(all.filter((key) => !TABLE[key]?.every(Boolean))).toEqual([])
})
