// What the charts show of a recording: which lines belong together, and how each is drawn. Pure.

/** What was recorded, a number for each frame; columns by the names of terms (`D.adv`) and of measures (`js`). */
export interface Series {
  step: number[]
  benches: Record<string, (number | null)[]>[]
}

export type Hue = 'judge' | 'generator' | 'real' | 'drawn'

export interface Line {
  bench: number
  column: string
  name: string // the word for it in the table of strings, behind `chart.`
  hue: Hue
  dash: number[]
  per: number // values are divided by this
}

export interface Panel {
  key: 'losses' | 'js' | 'kl' | 'modes' | 'verdict' | 'gradients'
  lines: Line[]
}

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]] // a bench each
const WORDS: Record<string, string> = { modes: 'covered', quality: 'quality', js: 'distance', kl: 'distance' }
const MEASURES: [Panel['key'], [string, Hue][]][] = [
  [
    'modes',
    [
      ['modes', 'generator'],
      ['quality', 'judge'],
    ],
  ],
  ['js', [['js', 'generator']]],
  ['kl', [['kl', 'generator']]],
]

/** The charts that have something to show. modes: how many are known, of which those covered are a share. */
export function panels(series: Series, modes: number): Panel[] {
  const lines = (key: Panel['key'], choose: (columns: string[]) => [string, string, Hue][]): Panel => ({
    key,
    lines: series.benches.flatMap((columns, bench) =>
      choose(Object.keys(columns).filter((name) => columns[name].some((v) => v !== null))).map(
        ([column, name, hue]) => ({
          bench,
          column,
          name,
          hue,
          dash: DASHES[bench],
          per: column === 'modes' ? modes || 1 : 1,
        }),
      ),
    ),
  })
  const found = [
    lines('losses', (columns) => both((player) => lossColumn(columns, player), 'loss')),
    ...MEASURES.map(([key, wanted]) =>
      lines(key, (columns) =>
        wanted.filter(([name]) => columns.includes(name)).map(([name, hue]) => [name, WORDS[name], hue]),
      ),
    ),
    lines('verdict', (columns) => [
      ...one(columns, '.real', 'real', 'real'),
      ...one(columns, '.fake', 'drawn', 'drawn'),
    ]),
    lines('gradients', (columns) => both((player) => ending(columns, player, '.grad'), 'gradient')),
  ]
  return found.filter((panel) => panel.lines.length)
}

function both(find: (player: 'D' | 'G') => string | undefined, name: string): [string, string, Hue][] {
  const of: ['D' | 'G', Hue][] = [
    ['D', 'judge'],
    ['G', 'generator'],
  ]
  return of.flatMap(([player, hue]) => {
    const column = find(player)
    return column ? [[column, name + player, hue] as [string, string, Hue]] : []
  })
}

function one(columns: string[], end: string, name: string, hue: Hue): [string, string, Hue][] {
  const column = ending(columns, 'D', end)
  return column ? [[column, name, hue]] : []
}

/** A turn's column: that of `D`, or of several movers with it, as `D+Q`; the generator's may move with an encoder. */
function ending(columns: string[], player: 'D' | 'G', end: string): string | undefined {
  return columns.find((name) => name.endsWith(end) && moves(name, player))
}

function moves(column: string, player: 'D' | 'G'): boolean {
  const movers = column.slice(0, column.lastIndexOf('.')).split('+')
  return movers.includes(player) && (player === 'G' || !movers.includes('G'))
}

/** The column of the loss a player makes smaller: what it gains from the other, else the first of its losses. */
function lossColumn(columns: string[], player: 'D' | 'G'): string | undefined {
  const losses = columns.filter((name) => moves(name, player) && !/\.(grad|real|fake|right)$/.test(name))
  return losses.find((name) => name.endsWith('.adv')) ?? losses[0]
}

/** What a legend says of a value. */
export function worded(value: number | null | undefined, line: Line): string {
  if (value === null || value === undefined) return '–'
  if (line.column === 'modes') return `${value} / ${line.per}`
  if (line.column === 'quality') return `${Math.round(100 * value)} %`
  return Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3)
    ? value.toExponential(1)
    : value.toPrecision(3)
}
