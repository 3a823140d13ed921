// What a setup means before it is opened: the value that an option has, and which options come first. Pure.

import type { Bench, Catalogue, GameInfo, OptionInfo, Options, Setup, Value } from './contract'

export const MOST_BENCHES = 4
export const NO_PRESET = 'none'

/** Shown at once, in this order; the others are folded away. */
const FIRST = [
  'z_dim', 'prior', 'widths', 'judge_widths', 'width', 'loss', 'penalty', 'k', 'n_critic', 'generator_k',
  'optim', 'judge_optim', 'lr', 'judge_lr', 'gamma', 'gp', 'clip',
] // prettier-ignore
const FALLBACK = 'vector' // the preset of points, where none is called like the data

export const gameOf = (catalogue: Catalogue | null, bench: Bench | undefined): GameInfo | undefined =>
  catalogue?.games.find(({ name }) => name === bench?.game)

/** The name of the preset that a bench stands on; '' if there is none. */
export function presetOf(game: GameInfo, bench: Bench, setup: Setup): string {
  const data = setup.data.kind === 'preset' ? setup.data.name : ''
  const wanted = bench.preset === null ? [data, FALLBACK] : [bench.preset]
  return wanted.find((name) => name in game.presets) ?? ''
}

/** What an option is unless the bench says otherwise. */
export function standard(game: GameInfo, bench: Bench, setup: Setup, option: OptionInfo): Value {
  const preset: Options = game.presets[presetOf(game, bench, setup)] ?? {}
  return option.name in preset ? preset[option.name] : option.default
}

export function valueOf(game: GameInfo, bench: Bench, setup: Setup, option: OptionInfo): Value {
  return option.name in bench.options ? bench.options[option.name] : standard(game, bench, setup, option)
}

/** The options that matter first, and the others. */
export function sorted({ options }: GameInfo): [first: OptionInfo[], others: OptionInfo[]] {
  const first = FIRST.flatMap((name) => options.filter((option) => option.name === name))
  return [first, options.filter((option) => !first.includes(option))]
}

export const same = (a: Value, b: Value): boolean => JSON.stringify(a) === JSON.stringify(b)

/** A number as somebody typed it for an option; null if it is none that the option takes. */
export function typed(text: string, type: string): number | null {
  const value = Number(text)
  if (!text.trim() || !Number.isFinite(value)) return null
  return type.startsWith('int') && !Number.isInteger(value) ? null : value
}
