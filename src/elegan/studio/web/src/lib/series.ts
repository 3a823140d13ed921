// What the charts draw: a column for each term and measure of each bench, a row for each frame, thinned as it grows.

import type { FrameBench, Recorded } from './contract'
import type { Series } from './views/charts'

export const MOST = 4_000 // rows

type Told = Pick<FrameBench, 'terms' | 'measures'>
const MEASURES = ['kl', 'js', 'modes', 'quality', 'gap'] as const

export const nothing = (): Series => ({ step: [], benches: [] })

/** The series with another row; the same columns, grown in place. A row of the last step takes its place. */
export function grown(series: Series, step: number, benches: Told[]): Series {
  const { step: steps, benches: columns } = series
  const again = steps.length > 0 && step <= steps[steps.length - 1]
  const row = again ? steps.length - 1 : steps.length
  steps[row] = step
  benches.forEach((told, k) => {
    const of = (columns[k] ??= {})
    const values: Record<string, number | null> = { ...told.terms }
    for (const name of MEASURES) if (told.measures) values[name] = told.measures[name]
    for (const name in values) (of[name] ??= Array<null>(row).fill(null))[row] = values[name] ?? null
    for (const name in of) if (of[name].length <= row) of[name][row] = null
  })
  if (steps.length > MOST) thin(series)
  return { step: steps, benches: columns }
}

/** Every other row goes, the newest stays. */
function thin({ step, benches }: Series): void {
  const keep = (_: unknown, row: number) => (step.length - 1 - row) % 2 === 0
  for (const of of benches) for (const name in of) of[name] = of[name].filter(keep)
  step.splice(0, step.length, ...step.filter(keep))
}

/** The rows of a recording. */
export function recalled(recorded: Recorded[]): Series {
  return recorded.reduce((series, { step, benches }) => grown(series, step, benches), nothing())
}
