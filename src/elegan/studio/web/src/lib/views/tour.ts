// The guided tour: the tutorials' story, played on the real engine. Its words stand in the table of strings.

import type { Command, Frame, Options, Setup } from '../contract'

export interface Stop {
  key: string // of its words: `tour.KEY.title`, `tour.KEY.text`
  anchor: string // the part of the page it speaks of
  enter?: Command[] // done on arriving
  act?: Command[] // done by its button, `tour.KEY.act`
  watch?: 'modes' | 'alarm' // what is told of the game while it runs
}

export const ring = (options: Options, preset: string | null): Setup => ({
  version: 1,
  data: { kind: 'preset', name: 'ring', samples: 50_000 },
  benches: [{ game: 'gan', preset, options }],
  seed: 0,
  batch: null,
  half_life_images: null,
  trained: false,
})

/** No penalty, and a judge far ahead: five moves to one at five times the rate, by the loss that has no slope then. */
const COLLAPSE: Options = { loss: 'minimax', gamma: 0, k: 5, judge_lr: 0.015 }
const ENOUGH = 1_500 // rounds, for it to collapse; the longer, the farther the way back
const CURE: Options = { gamma: 0.1 }

const times = (n: number, command: Command): Command[] => Array.from({ length: n }, () => command)
const live = (surface: boolean, manifold: boolean, arrows: boolean): Command => ({
  do: 'view',
  average: false,
  surface,
  manifold,
  arrows,
})

export const STOPS: Stop[] = [
  { key: 'data', anchor: '#plane', enter: [{ do: 'open', setup: ring({}, 'lab') }, live(false, false, false)] },
  { key: 'noise', anchor: '#graph', enter: [live(false, true, false)] },
  { key: 'judge', anchor: '#plane', enter: [live(true, false, false)], act: times(10, { do: 'step', who: 'D' }) },
  { key: 'generator', anchor: '#plane', enter: [live(true, false, true)], act: times(5, { do: 'step', who: 'G' }) },
  { key: 'slow', anchor: '#graph', act: [{ do: 'slow' }] },
  { key: 'play', anchor: '#transport', act: [{ do: 'play' }], watch: 'modes' },
  {
    key: 'equilibrium',
    anchor: '#charts',
    watch: 'modes',
    enter: [{ do: 'view', average: true }],
    act: [{ do: 'play' }],
  },
  {
    key: 'collapse',
    anchor: '#plane',
    watch: 'alarm',
    enter: [{ do: 'open', setup: ring(COLLAPSE, 'lab') }, live(true, true, true)],
    act: [{ do: 'play', until: ENOUGH }],
  },
  { key: 'cure', anchor: '#plane', watch: 'modes', act: [{ do: 'change', bench: 0, change: CURE }, { do: 'play' }] },
  { key: 'next', anchor: '#data', enter: [{ do: 'pause' }] },
]

/** What is told of a game: the key of a sentence and what stands in it; nothing while nothing is known. */
export function told(stop: Stop, frame: Frame | null): { key: string; values: Record<string, string | number> } | null {
  const bench = frame?.benches[0]
  if (!bench || !stop.watch) return null
  const alarm = bench.alarms.find(({ name }) => name === 'collapse') ?? bench.alarms[0]
  if (stop.watch === 'alarm' && alarm) return { key: 'tour.alarm', values: { step: alarm.step, why: alarm.why } }
  const measures = bench.measures
  if (!measures || measures.modes === null) return null
  const js = measures.js === null ? '–' : measures.js.toFixed(2)
  return { key: 'tour.modes', values: { modes: measures.modes, total: measures.total ?? 0, js } }
}

/** Where a card of this size stands so that it covers its target least: beside it, below, above, or at the bottom. */
export function beside(
  target: { left: number; top: number; right: number; bottom: number },
  card: { width: number; height: number },
  view: { width: number; height: number },
): { left: number; top: number } {
  const margin = 14
  const held = (value: number, most: number) => Math.max(Math.min(value, most), margin)
  const left = (at: number) => held(at, view.width - card.width - margin)
  const top = (at: number) => held(at, view.height - card.height - margin)
  if (target.right + card.width + 2 * margin <= view.width) return { left: target.right + margin, top: top(target.top) }
  if (target.left - card.width - 2 * margin >= 0)
    return { left: target.left - card.width - margin, top: top(target.top) }
  if (target.bottom + card.height + 2 * margin <= view.height)
    return { left: left(target.left), top: target.bottom + margin }
  if (target.top - card.height - 2 * margin >= 0)
    return { left: left(target.left), top: target.top - card.height - margin }
  return { left: left(target.left), top: view.height - card.height - margin }
}
