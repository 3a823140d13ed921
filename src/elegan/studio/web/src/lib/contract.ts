// What the server and the page say to each other. The Python side is `setup.py` (what is asked) and `wire.py` (frames).

export type Scalar = boolean | number | string | null
export type Value = Scalar | Scalar[]
export type Options = Record<string, Value>

export type Data =
  | { kind: 'preset'; name: string; samples?: number }
  | { kind: 'drawn'; points: [number, number][]; spread?: number; samples?: number }
  | { kind: 'csv'; text: string }
  | { kind: 'equation'; x: string; y: string; spread?: number; samples?: number }

export interface Bench {
  game: string
  preset: string | null // null: the one called like the data, or like its kind
  options: Options
}

export interface Setup {
  version: 1
  data: Data
  benches: Bench[]
  seed: number
  batch: number | null
  half_life_images: number | null
  trained: boolean
}

export type Command =
  | { do: 'open'; setup?: Setup | null }
  | { do: 'play'; until?: number | null; rate?: number | null }
  | { do: 'pause' }
  | { do: 'step'; who: 'D' | 'G' | 'both' }
  | { do: 'slow' }
  | { do: 'change'; bench: number; change: Options }
  | { do: 'view'; average?: boolean; points?: number; arrows?: boolean; surface?: boolean; manifold?: boolean }
  | { do: 'measure'; what: 'gap' }
  | { do: 'save' }
  | { do: 'seen'; seq: number }

// GET /api/catalogue ------------------------------------------------------------------------------------------------

export interface OptionInfo {
  name: string
  type: string // as a person reads it: int, float, bool, str, int,… (a tuple), or choices joined by |
  choices: string[] | null
  optional: boolean // none is allowed
  default: Value
  help: string
}

export interface GameInfo {
  name: string
  title: string
  paper: string // arXiv number or ''
  options: OptionInfo[]
  presets: Record<string, Options>
  players: string[] // ['D', 'G']; ['G'] for a game without a judge
}

export interface Catalogue {
  version: string
  games: GameInfo[] // those that take points in the plane
  data: { name: string; about: string }[]
  trained: string[] // data names that have a pre-trained start
  setup: Setup // the lab's own default
  exports: ('png' | 'gif' | 'mp4')[]
}

// GET /api/labs -> LabInfo[]; POST /api/labs (a Setup) -> LabInfo; DELETE /api/labs/ID ------------------------------------

export interface LabInfo {
  id: string
  setup: Setup
  alive: boolean
  step: number
}

// GET /api/labs/ID/frames: what is recorded; GET /api/labs/ID/frames/SEQ: that frame, the same bytes as live -----------

export interface Recorded {
  seq: number
  step: number
  at: number // seconds since 1970
  benches: { terms: Record<string, number>; measures: Measures | null }[]
}

// GET /api/labs/ID/spelled
export interface Spelled {
  commands: string[] // one for each bench
  python: string
  json: string
  note: string // what the commands do not repeat (changes made on the way), or ''
}

// POST /api/points (a Data) -> Preview: what data would look like, or an error
export interface Preview {
  points: [number, number][]
  samples: number
  about: string
}

// GET /api/runs -> RunInfo[]; GET /api/runs/ID -> RunHistory; POST /api/runs/ID/open -> LabInfo;
// GET /api/runs/ID/pictures/STEP -> a PNG
export interface RunInfo {
  id: string
  name: string
  game: string
  data: string
  step: number
  steps: number
  plane: boolean // it can be opened in the lab
  error: string // why it cannot be read, or ''
}
export interface RunHistory extends RunInfo {
  terms: Record<string, [number, number][]> // (step, value)
  scores: Record<string, [number, number][]>
  alarms: { step: number; name: string; said: string }[]
  pictures: number[] // steps
}

// GET /api/labs/ID/export.png|gif|mp4?first=SEQ&last=SEQ -> a file
// Errors of all of these: {"error": "a sentence"} with 400, 401, 403, 404, 405, 409, 413, 422, 429, 500 or 503.

// The stream /api/labs/ID/stream: text up (Command), binary down (wire.py) -----------------------------------------------

export interface Player {
  name: string // D, G, E …
  layers: { kind: string; size: number }[] // from the input on: {kind:'input', size:2}, {kind:'linear', size:128}, …
  rate: string // the change that sets its learning rate, such as D.lr; '' if none
}

export interface BenchInfo {
  game: string
  options: Options // all, completed
  players: Player[]
  rates: Record<string, number>
  live: string[] // names of options that may change while it trains
  z_dim: number // 0: draws from no noise
  prior: 'normal' | 'uniform'
  judged: boolean // has a judge whose surface can be shown
}

export interface Opened {
  kind: 'opened'
  setup: Setup // completed: batch and half_life_images are numbers
  about: string // of the data
  modes: number // known modes, 0 where there are none
  window: { left: number; low: number; side: number } // the square that is shown, in units of the data
  benches: BenchInfo[]
  // arrays: 'real' (n, 2)
}

export interface Measures {
  step: number
  kl: number | null
  js: number | null
  modes: number | null
  total: number | null
  quality: number | null // share of points near a mode, [0, 1]
  gap: number | null // the duality gap, when it was last asked for
}

export type StageName = 'draw' | 'judge' | 'loss' | 'gradient' | 'update'

export interface Stage {
  player: string // whose turn it is
  name: StageName
  number: number // from 1
  of: number
  move: number // of the k moves of this turn, from 1
  moves: number
}

export interface Alarm {
  name: string
  step: number
  why: string // in words
  remedy: string
}

export interface FrameBench {
  terms: Record<string, number> // D.adv, D.grad, D.real, D.fake, D.right, G.adv, G.grad …
  rates: Record<string, number>
  measures: Measures | null
  alarms: Alarm[] // on now
  ended: string // why this bench trains no more (it diverged), or ''
  figures: Record<string, number> // of a stage: the loss, the gradient's norm …
}

export interface Frame {
  kind: 'frame'
  seq: number
  at: number // seconds since 1970, when it was made
  step: number
  images: number
  playing: boolean
  rate: number // rounds a second, lately
  average: boolean // what is drawn comes from the averaged players
  stage: Stage | null
  benches: FrameBench[]
  // arrays, for bench k: 'k/fake' (n, 2), 'k/noise' (n, 1|2), 'k/judged' u1 (n,), 'k/judged_real' u1 (n,),
  // 'k/surface' u1 (64, 64) rows from above, 255 = real, 'k/arrows' (n, 2) where the generator's loss moves each
  // fake point, 'k/manifold' (21, 21, 2) or (201, 2); in a stage also 'k/batch_real', 'k/batch_fake' (b, 2),
  // 'k/batch_judged_real', 'k/batch_judged_fake' u1 (b,), 'k/batch_arrows' (b, 2)
}

export interface Refused {
  kind: 'refused' // a command that could not be done; the lab goes on
  error: string
}
export interface Failed {
  kind: 'failed' // the process is gone; the recording stays. `open` begins anew
  error: string
}
export interface Saved {
  kind: 'saved'
  runs: string[] // names of run directories
}
export interface Changed {
  kind: 'changed' // what a bench trains by from now on; a page that comes later hears of it after `opened`
  bench: number
  step: number
  change: Options
}
export interface Gap {
  kind: 'measured'
  bench: number
  gap: number
}

export type Message = (Opened | Frame | Refused | Failed | Saved | Changed | Gap) & {
  arrays: { name: string; type: 'u1' | 'i2'; shape: number[]; scale: number; at: number }[]
}
