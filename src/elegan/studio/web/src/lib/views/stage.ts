// What is said of a stage of slow motion: which sentence, and which figures of the move.

import type { BenchInfo, Stage } from '../contract'
import { judges } from './graph'
import type { Shot } from './plane'

/** The key of a stage's sentence: the judge's turn, the generator's against a judge, or that of players without one. */
export function sentence(stage: Stage, info: BenchInfo): string {
  const side = judges(stage.player) ? 'D' : info.players.some(({ name }) => name === 'D') ? 'G' : 'E'
  return `stage.${side}.${stage.name}`
}

/** A figure of a move: the key of its word, or a term's own name where the table of strings knows none. */
export interface Figure {
  key: string
  name: string
  value: string
}

const NAMED = ['adv', 'grad', 'moved'] // what is told of it: the loss, the gradient's norm, how far weights moved
const NO_LOSS = /^(real|fake|right|overfitting|grad|moved)$/

/** The figures that a stage speaks of: mean verdicts of its batch, losses, the gradient, the step. */
export function figures(stage: Stage, bench: number, frame: Shot): Figure[] {
  const known = frame.head.benches[bench].figures
  const of = (name: string): Figure[] =>
    known[name] === undefined
      ? []
      : [{ key: NAMED.includes(name) ? `stage.figure.${name}` : '', name, value: known[name].toPrecision(3) }]
  const verdict = (side: 'real' | 'fake'): Figure[] => {
    const judged = frame.arrays[`${bench}/batch_judged_${side}`]
    return judged
      ? [{ key: `stage.figure.${side}`, name: side, value: `${Math.round(mean(judged.values) / 2.55)} %` }]
      : []
  }
  switch (stage.name) {
    case 'draw':
      return []
    case 'judge':
      return [...verdict('real'), ...verdict('fake')]
    case 'loss':
      return Object.keys(known)
        .filter((name) => !NO_LOSS.test(name))
        .flatMap(of)
    case 'gradient':
      return of('grad')
    case 'update':
      return of('moved')
  }
}

function mean(values: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]
  return sum / values.length
}
