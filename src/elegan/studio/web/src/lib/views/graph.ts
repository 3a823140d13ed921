// Where the parts of a game stand in its graph, what runs between them, and which of them a stage is about. Pure.

import type { BenchInfo, Stage } from '../contract'

export type Part = 'noise' | 'helper' | 'G' | 'drawn' | 'real' | 'D' | 'verdict' | 'lossD' | 'lossG'
export interface Box {
  x: number
  y: number
  width: number
  height: number
}
/** What runs from one part to another: data forward, gradients back beside it. */
export interface Edge {
  from: Part
  to: Part
  back: boolean
  path: string
}
export interface Layout {
  height: number
  boxes: Partial<Record<Part, Box>>
  edges: Edge[]
}

const WIDE = 560 // pixels; below this the graph is folded
const LABEL = 20 // pixels above each part, where a line of words stands
const ASIDE = 5 // pixels that a gradient runs beside its data

/** The way of data and of gradients through a game: with a judge, or without one. */
export function ways(info: BenchInfo): { forward: [Part, Part][]; back: [Part, Part][] } {
  const helper = helpers(info).length > 0
  const encodes = helpers(info).includes('E')
  const noise: [Part, Part][] = info.z_dim || encodes ? [['noise', 'G']] : []
  const helped: [Part, Part][] = helper
    ? encodes
      ? [
          ['real', 'helper'],
          ['helper', 'noise'],
        ]
      : [['drawn', 'helper']]
    : []
  if (!judge(info)) {
    return {
      forward: [...noise, ['G', 'drawn'], ['drawn', 'lossG'], ['real', 'lossG'], ...helped],
      back: [
        ['lossG', 'drawn'],
        ['drawn', 'G'],
        ...(encodes
          ? ([
              ['G', 'noise'],
              ['noise', 'helper'],
            ] as [Part, Part][])
          : []),
      ],
    }
  }
  return {
    forward: [
      ...noise,
      ['G', 'drawn'],
      ['drawn', 'D'],
      ['real', 'D'],
      ['D', 'verdict'],
      ['verdict', 'lossD'],
      ['verdict', 'lossG'],
      ...helped,
    ],
    back: [
      ['lossD', 'verdict'],
      ['lossG', 'verdict'],
      ['verdict', 'D'],
      ['D', 'drawn'],
      ['drawn', 'G'],
    ],
  }
}

const judge = (info: BenchInfo): boolean => info.players.some(({ name }) => name === 'D')

/** Players that are neither judge nor generator. */
export function helpers(info: BenchInfo): string[] {
  return info.players.map(({ name }) => name).filter((name) => name !== 'D' && name !== 'G')
}

/** The graph of a game on so many pixels: from left to right where there is room, else folded. */
export function layout(width: number, info: BenchInfo): Layout {
  const { forward, back } = ways(info)
  const parts = new Set([...forward, ...back].flat())
  const wide = width >= WIDE
  const found = wide ? across(width, parts) : folded(width, parts)
  const edges = [...forward.map((way) => [...way, false] as const), ...back.map((way) => [...way, true] as const)]
  return {
    ...found,
    edges: edges.map(([from, to, back]) => ({
      from,
      to,
      back,
      path: path(found.boxes[from]!, found.boxes[to]!, back),
    })),
  }
}

function across(width: number, parts: Set<Part>): { height: number; boxes: Layout['boxes'] } {
  const room = Math.min(Math.max((width - WIDE) / 380, 0), 1) // from the tightest to the most generous
  const thumb = 58 + 36 * room
  const player = 92 + 44 * room
  const wide = { noise: thumb, G: player, drawn: thumb, D: player, verdict: 70 + 30 * room, loss: 78 + 34 * room }
  const order = (['noise', 'G', 'drawn', 'D', 'verdict', 'loss'] as const).filter(
    (name) => name === 'loss' || parts.has(name),
  )
  const taken = order.reduce((sum, name) => sum + wide[name], 0)
  const gap = Math.min((width - taken) / Math.max(order.length - 1, 1), 72)
  const left: Record<string, number> = {}
  let x = (width - taken - gap * (order.length - 1)) / 2
  for (const name of order) {
    left[name] = x
    x += wide[name] + gap
  }
  const low = LABEL + player + 14 + LABEL // the top of the lower row
  const height = low + player
  const middle = (height + LABEL) / 2
  const squared = (name: keyof typeof wide, y: number, side = wide[name]): Box => ({
    x: left[name],
    y,
    width: wide[name],
    height: side,
  })
  const boxes: Layout['boxes'] = {
    noise: squared('noise', low + (player - thumb) / 2),
    G: squared('G', low),
    drawn: squared('drawn', low + (player - thumb) / 2),
    real: squared('drawn', LABEL + (player - thumb) / 2),
    helper: squared('G', LABEL + (player - 64) / 2, 64),
    D: squared('D', middle - player / 2),
    verdict: squared('verdict', middle - thumb / 2, thumb),
    lossD: squared('loss', LABEL + (player - 56) / 2, 56),
    lossG: squared('loss', low + (player - 56) / 2, 56),
  }
  return { height, boxes: kept(boxes, parts) }
}

/** In three columns: the points run to the right above, what is said of them back to the left below. */
function folded(width: number, parts: Set<Part>): { height: number; boxes: Layout['boxes'] } {
  const room = Math.min(Math.max((width - 320) / (WIDE - 320), 0), 1)
  const [loss, player, thumb] = [78 + 34 * room, 92 + 44 * room, 62 + 34 * room]
  const gap = Math.min((width - loss - 2 * player) / 2, 72)
  const from = (width - loss - 2 * player - 2 * gap) / 2
  const centres = [from + loss / 2, from + loss + gap + player / 2, from + loss + 2 * gap + player * 1.5]
  const middles = [player / 2, player * 1.5, player * 2 + thumb / 2].map((y, row) => y + LABEL * (row + 1) + 12 * row)
  const at = (column: number, row: number, wide: number, tall = wide): Box => ({
    x: centres[column] - wide / 2,
    y: middles[row] - tall / 2,
    width: wide,
    height: tall,
  })
  const boxes: Layout['boxes'] = {
    noise: at(0, 0, thumb),
    G: at(1, 0, player),
    drawn: at(2, 0, thumb),
    lossG: parts.has('D') ? at(0, 1, loss, 56) : at(2, 1, loss, 56),
    verdict: at(1, 1, thumb),
    D: at(2, 1, player),
    lossD: at(0, 2, loss, 56),
    helper: at(1, 2, 92, 60),
    real: at(2, 2, thumb),
  }
  return { height: middles[2] + thumb / 2, boxes: kept(boxes, parts) }
}

function kept(boxes: Layout['boxes'], parts: Set<Part>): Layout['boxes'] {
  return Object.fromEntries(Object.entries(boxes).filter(([part]) => parts.has(part as Part)))
}

/** A curve from one box to another, leaving and entering where they face each other. */
function path(from: Box, to: Box, back: boolean): string {
  const dx = to.x + to.width / 2 - from.x - from.width / 2
  const dy = to.y + to.height / 2 - from.y - from.height / 2
  const apart = dx > 0 ? to.x - from.x - from.width : from.x - to.x - to.width // sideways, between them
  const aside = back ? ASIDE : -ASIDE
  if (apart > 4) {
    const way = Math.sign(dx)
    const [x0, y0] = [from.x + (way > 0 ? from.width : 0), from.y + from.height / 2 + aside]
    const [x1, y1] = [to.x + (way > 0 ? 0 : to.width), to.y + to.height / 2 + aside]
    const bend = (x1 - x0) / 2
    return curve(x0, y0, x0 + bend, y0, x1 - bend, y1, x1, y1)
  }
  const way = Math.sign(dy)
  const top = (box: Box) => box.y - LABEL + 2 // above its words
  const [x0, y0] = [from.x + from.width / 2 + aside, way > 0 ? from.y + from.height : top(from)]
  const [x1, y1] = [to.x + to.width / 2 + aside, way > 0 ? top(to) : to.y + to.height]
  const bend = (y1 - y0) / 2
  return curve(x0, y0, x0, y0 + bend, x1, y1 - bend, x1, y1)
}

function curve(...numbers: number[]): string {
  const [x, y, ...rest] = numbers.map((n) => Math.round(n * 10) / 10)
  return `M${x} ${y}C${rest.join(' ')}`
}

/** The part that a stage is about, which wears its number. */
export function centre(stage: Stage): Part {
  const judging = judges(stage.player)
  switch (stage.name) {
    case 'draw':
      return 'drawn'
    case 'judge':
      return 'D'
    case 'loss':
      return judging ? 'lossD' : 'lossG'
    case 'gradient':
      return judging ? 'verdict' : 'drawn'
    case 'update':
      return judging ? 'D' : 'G'
  }
}

/** Whether a turn is the judge's, maybe with a helper of its own; the generator's may move several too. */
export function judges(player: string): boolean {
  const movers = player.split(/[ +]/)
  return movers.includes('D') && !movers.includes('G')
}

/** What is lit in a stage: parts by name, edges as `from>to`, the gradients' as `from<to`. */
export function lit(stage: Stage, real: boolean): Set<string> {
  const judging = judges(stage.player)
  const loss = judging ? 'lossD' : 'lossG'
  switch (stage.name) {
    case 'draw':
      return new Set(['noise', 'noise>G', 'G', 'G>drawn', 'drawn', ...(real ? ['real'] : [])])
    case 'judge':
      return new Set(['drawn', 'drawn>D', 'D', 'D>verdict', 'verdict', ...(real ? ['real', 'real>D'] : [])])
    case 'loss':
      return new Set(['verdict', `verdict>${loss}`, loss, `drawn>${loss}`, ...(real ? [`real>${loss}`] : [])])
    case 'gradient':
      return new Set([
        loss,
        `${loss}<verdict`,
        'verdict',
        'verdict<D',
        'D',
        ...(judging ? [] : [`${loss}<drawn`, 'D<drawn', 'drawn', 'drawn<G', 'G']),
      ])
    case 'update':
      return new Set([judging ? 'D' : 'G'])
  }
}

/** The loss that a player makes smaller, of a step's terms: `D.adv`, or the sum of all its terms that are losses. */
export function lossOf(terms: Record<string, number>, player: 'D' | 'G'): number | null {
  const of = Object.entries(terms).filter(
    ([name]) =>
      name.split('.')[0].split('+')[0] === player || (player === 'G' && name.split('.')[0].split('+').includes('G')),
  )
  const adv = of.find(([name]) => name.endsWith('.adv'))
  if (adv) return adv[1]
  const losses = of.filter(([name]) => !/\.(grad|real|fake|right)$/.test(name))
  return losses.length ? losses.reduce((sum, [, value]) => sum + value, 0) : null
}
