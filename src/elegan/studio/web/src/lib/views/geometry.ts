// Where things of the plane lie on a picture, and what shape they take there. Pure: numbers in, numbers out.

export interface Window {
  left: number
  low: number
  side: number
}

/** An array as a message holds it, or as it was computed: a value is the number times `scale`. */
export interface Numbers {
  values: ArrayLike<number>
  scale: number
  shape: number[]
}

export const BANDS = 11 // steps of colour on either side of undecided
const UNDECIDED = 127.5

/** Pixels (x, y downwards) of points (n, 2), of a picture of so many pixels. Pairs in a row. */
export function pixels(points: Numbers, window: Window, side: number): Float32Array {
  const { values, scale } = points
  const found = new Float32Array(values.length)
  const per = side / window.side
  for (let i = 0; i < values.length; i += 2) {
    found[i] = (values[i] * scale - window.left) * per
    found[i + 1] = side - (values[i + 1] * scale - window.low) * per
  }
  return found
}

/** The place in units of the data that lies at a pixel. */
export function place(x: number, y: number, window: Window, side: number): [number, number] {
  const unit = window.side / side
  return [window.left + x * unit, window.low + (side - y) * unit]
}

/** A map (n, n) blurred by [1 2 1] both ways: what a judge says in 256 steps is grainy where it is flat. */
export function blurred(map: ArrayLike<number>, n: number): Float32Array {
  const across = new Float32Array(n * n)
  const both = new Float32Array(n * n)
  for (let i = 0; i < n * n; i++) {
    const x = i % n
    across[i] = (map[x ? i - 1 : i] + 2 * map[i] + map[x < n - 1 ? i + 1 : i]) / 4
  }
  for (let i = 0; i < n * n; i++) {
    both[i] = (across[i >= n ? i - n : i] + 2 * across[i] + across[i < n * n - n ? i + n : i]) / 4
  }
  return both
}

/** The value of a map (n, n), rows from above, at a share (x, y) of its width and height; between centres. */
export function sampled(map: ArrayLike<number>, n: number, x: number, y: number): number {
  const [column, row] = [x, y].map((share) => Math.min(Math.max(share * n - 0.5, 0), n - 1))
  const [left, above] = [Math.min(Math.floor(column), n - 2), Math.min(Math.floor(row), n - 2)]
  const [right, below] = [column - left, row - above]
  const at = above * n + left
  const upper = map[at] * (1 - right) + map[at + 1] * right
  const lower = map[at + n] * (1 - right) + map[at + n + 1] * right
  return upper * (1 - below) + lower * below
}

/**
 * The band of a verdict in [0, 255]: -BANDS is surely drawn, 0 undecided, BANDS surely real. By the root of the
 * distance from undecided, since a good generator leaves its judge little to decide.
 */
export function band(verdict: number): number {
  const sure = verdict / UNDECIDED - 1
  return Math.sign(sure) * Math.ceil(Math.sqrt(Math.abs(sure)) * BANDS - 0.5) || 0
}

/**
 * Where a map (n, n) is undecided: line pieces x0, y0, x1, y1 as shares of width and height (marching squares). Cells
 * that are flat to within `least` are left out: there the map says nothing, and the line would be noise.
 */
export function contour(map: ArrayLike<number>, n: number, least = 0.5): Float32Array {
  const found: number[] = []
  for (let row = 0; row < n - 1; row++) {
    for (let column = 0; column < n - 1; column++) {
      const at = row * n + column
      const a = map[at] - UNDECIDED
      const b = map[at + 1] - UNDECIDED
      const c = map[at + n + 1] - UNDECIDED
      const d = map[at + n] - UNDECIDED
      const cut: number[] = [] // where the line crosses the cell's edges, clockwise from above
      if (a < 0 !== b < 0) cut.push(column + a / (a - b), row)
      if (b < 0 !== c < 0) cut.push(column + 1, row + b / (b - c))
      if (c < 0 !== d < 0) cut.push(column + d / (d - c), row + 1)
      if (d < 0 !== a < 0) cut.push(column, row + a / (a - d))
      if (!cut.length || Math.max(a, b, c, d) - Math.min(a, b, c, d) < least) continue
      const turned = cut.length === 8 && a + b + c + d < 0 !== a < 0 // a saddle: corners of the middle's side are one
      const order = turned ? [2, 3, 4, 5, 6, 7, 0, 1] : [0, 1, 2, 3, 4, 5, 6, 7]
      for (const i of order.slice(0, cut.length)) found.push((cut[i] + 0.5) / n)
    }
  }
  return Float32Array.from(found)
}

/**
 * How dense each cell of a warped grid lies, against its mass spread evenly on the picture: (side² / cells) / area, row
 * by row. corners: (m, m) as `pixels` gives them.
 */
export function density(corners: Float32Array, m: number, side: number): Float32Array {
  const found = new Float32Array((m - 1) * (m - 1))
  const even = (side * side) / found.length
  for (let cell = 0; cell < found.length; cell++) {
    found[cell] = even / Math.max(Math.abs(area(corners, m, cell)), 1e-6)
  }
  return found
}

/** The area of a cell with its sign: below 0 where the grid is folded over. */
export function area(corners: Float32Array, m: number, cell: number): number {
  const [a, b, c, d] = around(m, cell)
  const [ax, ay] = [corners[c] - corners[a], corners[c + 1] - corners[a + 1]]
  const [bx, by] = [corners[d] - corners[b], corners[d + 1] - corners[b + 1]]
  return (ax * by - ay * bx) / 2 // half the cross product of the diagonals
}

/** Where the four corners of a cell stand in `corners`, one after the other around it. */
export function around(m: number, cell: number): [number, number, number, number] {
  const first = 2 * (Math.floor(cell / (m - 1)) * m + (cell % (m - 1)))
  return [first, first + 2, first + 2 + 2 * m, first + 2 * m]
}

/**
 * Arrows x0, y0, x1, y1 from feet (pixels) along ways (n, 2) in units of the data. Lengths go by their root, the
 * longest is a seventh of the side, as in the pictures of a run; those below `least` pixels are left out.
 */
export function arrows(feet: Float32Array, ways: Numbers, side: number, count: number, least = 3): Float32Array {
  const lengths = new Float32Array(count)
  let longest = 0
  for (let i = 0; i < count; i++) {
    lengths[i] = Math.hypot(ways.values[2 * i], ways.values[2 * i + 1])
    longest = Math.max(longest, lengths[i])
  }
  const found: number[] = []
  for (let i = 0; i < count; i++) {
    const stretch = side / 7 / Math.sqrt(lengths[i] * longest)
    if (!(lengths[i] * stretch >= least)) continue // also where nothing pulls at all
    const [x, y] = [feet[2 * i], feet[2 * i + 1]]
    found.push(x, y, x + ways.values[2 * i] * stretch, y - ways.values[2 * i + 1] * stretch)
  }
  return Float32Array.from(found)
}

/** How many of n things to show so that each has a square of `room` pixels a side, were they spread out. */
export function thinned(n: number, side: number, room: number): number {
  return Math.min(n, Math.max(16, Math.floor((side / room) ** 2)))
}

/** Round numbers within (low, low + extent), `about` so many: 1, 2 or 5 times a power of ten apart. */
export function ticks(low: number, extent: number, about = 4): number[] {
  const rough = extent / about
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((k) => k * power).reduce((a, b) => (Math.abs(b - rough) < Math.abs(a - rough) ? b : a))
  const found: number[] = []
  for (let k = Math.ceil(low / step - 1e-9); k * step <= low + extent + 1e-9 * step; k++)
    found.push(Number((k * step).toPrecision(12)))
  return found
}

/** Between two lists of places: `share` of the way from the one to the other. */
export function between(from: Float32Array, to: Float32Array, share: number): Float32Array {
  return from.map((x, i) => x + (to[i] - x) * share)
}
