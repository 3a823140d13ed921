// The lab as the page knows it: its connection, what is open, the newest frame, the curves, the recording.

import { api, Fault } from './api'
import type { Catalogue, Command, Frame, LabInfo, Opened, Options, Recorded, Setup } from './contract'
import { lament, say, settle } from './notices.svelte'
import { grown, nothing, recalled } from './series'
import { fromHash, MARK, toHash } from './share'
import { t } from './strings'
import type { Layers } from './views/plane'
import { decode, type Decoded } from './wire'

type Link = 'connecting' | 'open' | 'lost' | 'locked'

const SOONEST = 250 // milliseconds before the first try to connect again; doubled with each
const LATEST = 5_000
const KEPT = 80 // frames of the recording that are kept here
const HERE = 'elegan.lab' // which lab this tab shows, and by which link it was opened

class Lab {
  catalogue = $state.raw<Catalogue | null>(null)
  id = $state('')
  link = $state<Link>('connecting')
  opened = $state.raw<Decoded<Opened> | null>(null)
  live = $state.raw<Decoded<Frame> | null>(null)
  series = $state.raw(nothing())
  failed = $state('') // why its process is gone
  stuck = $state('') // why there is no lab at all
  busy = $state(false) // it is being opened

  draft = $state<Setup | null>(null) // what the panels say; opened by `restart`
  base = $state<Setup | null>(null) // what is open, live changes with it
  layers = $state<Layers>({ real: true, drawn: true, surface: true, manifold: false, arrows: true })
  bench = $state(0) // which one the panels, the graph and the stages speak of
  rate = $state<number | null>(null) // rounds a second at most

  recorded = $state.raw<Recorded[]>([])
  at = $state<number | null>(null) // which frame of the recording is shown; null: the newest, live
  replayed = $state.raw<Decoded<Frame> | null>(null)
  running = $state(false) // the recording plays

  frame = $derived(this.at === null ? this.live : (this.replayed ?? this.live))
  stage = $derived(this.frame?.head.stage ?? null)
  playing = $derived(Boolean(this.live?.head.playing))
  changed = $derived(Boolean(this.draft && this.base && JSON.stringify(this.draft) !== JSON.stringify(this.base)))
  names = $derived((this.opened?.head.benches ?? []).map((one, k) => `${k + 1} ${one.game}`))

  #socket: WebSocket | null = null
  #tries = 0
  #kept = new Map<number, Decoded<Frame>>()
  #undo: (() => void) | null = null // what was changed last, in case it is refused
  #again = false // play once what was asked for is open
  #joining = false // a lab that was left, or lost, is joined again: what was typed stays
  #home: { id: string; draft: Setup; base: Setup } | null = null // the lab that was left for the tour
  #started: (() => void) | null = null // told once a lab is open

  /** Find a lab to show, or open one: the link's, the one this tab had, any other, or the default. */
  async begin(): Promise<void> {
    this.stuck = ''
    try {
      const [catalogue, labs, shared] = await Promise.all([api.catalogue(), api.labs(), fromHash(location.hash)])
      this.catalogue = catalogue
      const [had, hash] = (sessionStorage.getItem(HERE) ?? ' ').split(' ')
      const known = labs.find(({ id }) => id === had) ?? (shared ? undefined : labs[0])
      if (shared) this.#wear(shared.layers)
      else if (location.hash.startsWith(MARK)) say(t('share.damaged'), true)
      if (known && (!shared || hash === location.hash)) this.#join(known)
      else if (shared && known) this.#join(known, shared.setup)
      else this.#join(await this.#opened(shared?.setup ?? null, catalogue.setup))
      if (shared?.average === false) this.send({ do: 'view', average: false })
    } catch (error) {
      if (error instanceof Fault && error.status === 401) this.link = 'locked'
      this.stuck = error instanceof Error ? error.message : String(error)
    }
  }

  /** A lab of a link's setup; of the default, and why, if that is refused. */
  async #opened(setup: Setup | null, otherwise: Setup): Promise<LabInfo> {
    try {
      return await api.open(setup ?? otherwise)
    } catch (error) {
      if (!setup || !(error instanceof Fault) || error.status !== 422) throw error
      history.replaceState(null, '', location.pathname)
      say(error.message, true)
      return api.open(otherwise)
    }
  }

  /** Show the lab of a link that was put into the address. */
  async follow(): Promise<void> {
    const shared = await fromHash(location.hash)
    if (!shared && location.hash.startsWith(MARK)) say(t('share.damaged'), true)
    if (!shared) return
    this.#remember()
    this.#wear(shared.layers)
    this.open(shared.setup)
  }

  /** The address of this lab; null if its data is too large for one. It is put into the address line as well. */
  async share(): Promise<string | null> {
    if (!this.draft) return null
    const shared = { setup: $state.snapshot(this.draft) as Setup, layers: { ...this.layers }, average: this.live?.head.average ?? true } // prettier-ignore
    const hash = await toHash(shared)
    if (hash === null) return null
    history.replaceState(null, '', hash)
    this.#remember()
    return location.href
  }

  join(lab: LabInfo): void {
    history.replaceState(null, '', location.pathname)
    this.#join(lab)
  }

  /** Send a command; whether it could be sent. */
  send(command: Command): boolean {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(command))
      return true
    }
    if (command.do !== 'seen') say(t('error.offline'), true)
    return false
  }

  /** Leave this lab, paused, for one that the tour plays with; settled once that is open. */
  async aside(): Promise<void> {
    if (!this.catalogue || !this.draft || !this.base || this.#home) return
    if (this.playing) this.send({ do: 'pause' })
    const home = { id: this.id, draft: $state.snapshot(this.draft) as Setup, base: $state.snapshot(this.base) as Setup }
    try {
      const other = await api.open(this.catalogue.setup)
      const open = new Promise<void>((go) => (this.#started = go))
      this.#join(other)
      this.#home = home
      await open
    } catch (error) {
      lament(error)
    }
  }

  /** Back from the tour's lab, which is closed, to the one that was left. */
  async home(layers: Layers | null): Promise<void> {
    const [home, tour] = [this.#home, this.id]
    if (!home) return
    this.#home = null
    this.layers = layers ?? this.layers
    this.draft = home.draft
    this.base = home.base
    this.#joining = true
    this.#join({ id: home.id })
    await api.close(tour).catch(lament)
  }

  // -- what is asked for ------------------------------------------------------------------------------------------

  /** Do a command and let the page follow, as the tour does. */
  act(command: Command): void {
    if (command.do === 'open') this.open(command.setup ?? null)
    else if (command.do === 'change') this.change(command.bench, command.change)
    else if (command.do === 'view') {
      const { do: _, average, points: __, ...layers } = command
      this.show(layers)
      if (average !== undefined) this.send({ do: 'view', average })
    } else {
      if (command.do !== 'measure' && command.do !== 'save') this.back()
      this.send(command)
    }
  }

  open(setup: Setup | null, then: { play: boolean } = { play: false }): void {
    this.back()
    settle()
    if (!this.send({ do: 'open', setup })) return
    this.busy = true
    this.failed = ''
    this.#again = then.play
  }

  /** Begin anew with what the panels say. */
  restart(): void {
    if (this.draft) this.open($state.snapshot(this.draft) as Setup, { play: this.playing })
  }

  toggle(): void {
    this.back()
    this.send(this.playing ? { do: 'pause' } : { do: 'play', rate: this.rate })
  }

  limit(rate: number | null): void {
    this.rate = rate
    if (this.playing) this.send({ do: 'play', rate })
  }

  /** Change an option or a rate while it trains; it is part of the setup from then on. */
  change(bench: number, change: Options): void {
    settle()
    const before = this.#setups(bench).map((setup) => $state.snapshot(setup.benches[bench].options))
    this.#undo = () => this.#setups(bench).forEach((setup, k) => (setup.benches[bench].options = before[k]))
    this.#note(bench, change)
    this.send({ do: 'change', bench, change })
  }

  #setups(bench: number): Setup[] {
    return [this.draft, this.base].filter((setup) => setup?.benches[bench]) as Setup[]
  }

  /** Let the panels say what a game trains by now. */
  #note(bench: number, change: Options): void {
    const options = Object.fromEntries(Object.entries(change).filter(([name]) => !name.includes('.'))) // no single rates
    for (const setup of this.#setups(bench)) Object.assign(setup.benches[bench].options, options)
  }

  show(layers: Partial<Layers>): void {
    this.layers = { ...this.layers, ...layers }
    this.#ask()
  }

  // -- the recording ----------------------------------------------------------------------------------------------

  /** Show the recorded frame that is nearest to a step. */
  async seek(step: number): Promise<void> {
    this.running = false
    if (this.at === null) await this.#recall()
    let best = 0
    this.recorded.forEach((one, k) => {
      if (Math.abs(one.step - step) < Math.abs(this.recorded[best].step - step)) best = k
    })
    if (this.recorded.length) await this.#replay(best)
  }

  /** Go on by so many frames of the recording; past its end is live. */
  async move(frames: number): Promise<void> {
    if (this.at === null) {
      if (frames > 0) return
      await this.#recall()
    }
    const next = (this.at ?? this.recorded.length - 1) + frames
    if (next >= this.recorded.length) this.back()
    else await this.#replay(Math.max(next, 0))
  }

  /** Play the recording, from its start if it is at its end, or stop. */
  async rerun(): Promise<void> {
    this.running = !this.running
    if (!this.running) return
    if (this.at === null) {
      await this.#recall()
      if (this.recorded.length) await this.#replay(0)
    }
    while (this.running && this.at !== null) {
      const due = performance.now() + 40
      await this.move(1)
      await new Promise((go) => setTimeout(go, Math.max(due - performance.now(), 0)))
    }
    this.running = false
  }

  /** Back to what happens now. */
  back(): void {
    this.at = null
    this.replayed = null
    this.running = false
  }

  async #recall(): Promise<void> {
    try {
      this.recorded = await api.recorded(this.id)
    } catch (error) {
      lament(error)
    }
  }

  async #replay(at: number): Promise<void> {
    this.at = at
    const { seq } = this.recorded[at]
    try {
      const found = this.#kept.get(seq) ?? ((await api.frame(this.id, seq)) as Decoded<Frame>)
      this.#kept.set(seq, found)
      if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value!)
      if (this.at === at) this.replayed = found
    } catch (error) {
      if (error instanceof Fault && error.status === 404) await this.#recall() // it has been thinned since
      else lament(error)
      this.running = false
    }
  }

  // -- the connection ---------------------------------------------------------------------------------------------

  #join({ id }: { id: string }, setup?: Setup): void {
    this.id = id
    this.#forget()
    this.#remember()
    this.#connect(setup)
  }

  #remember(): void {
    sessionStorage.setItem(HERE, `${this.id} ${location.hash}`)
  }

  #forget(): void {
    this.back()
    this.recorded = []
    this.#kept.clear()
    this.series = nothing()
    this.live = null
    this.failed = ''
  }

  #connect(setup?: Setup): void {
    if (this.#socket) this.#socket.onclose = null
    this.#socket?.close()
    if (this.link !== 'lost') this.link = 'connecting'
    const socket = (this.#socket = api.stream(this.id))
    socket.onopen = () => {
      this.link = 'open'
      this.#tries = 0
      if (setup) this.open(setup)
    }
    socket.onmessage = ({ data }) => this.#hear(data as ArrayBuffer)
    socket.onclose = () => {
      this.link = 'lost'
      setTimeout(() => void this.#mend(), Math.min(SOONEST * 2 ** this.#tries++, LATEST))
    }
  }

  /** Connect again; a lab that is gone is opened anew. */
  async #mend(): Promise<void> {
    try {
      const labs = await api.labs()
      this.#joining = labs.some(({ id }) => id === this.id)
      if (this.#joining) return this.#connect()
      say(t('status.anew'), true)
      this.#join(await api.open(($state.snapshot(this.draft) as Setup | null) ?? this.catalogue!.setup))
    } catch (error) {
      if (error instanceof Fault && error.status === 401) this.link = 'locked'
      else setTimeout(() => void this.#mend(), Math.min(SOONEST * 2 ** this.#tries++, LATEST))
    }
  }

  #hear(data: ArrayBuffer): void {
    let message: Decoded
    try {
      message = decode(data)
    } catch (error) {
      return lament(error)
    }
    const { head, arrays } = message
    if (head.kind === 'frame') this.#see({ head, arrays })
    else if (head.kind === 'opened') this.#start({ head, arrays })
    else if (head.kind === 'refused') {
      this.busy = false
      this.#undo?.()
      this.#undo = null
      say(head.error, true)
    } else if (head.kind === 'failed') {
      this.busy = false
      this.failed = head.error
    } else if (head.kind === 'changed') {
      this.#undo = null
      this.#note(head.bench, head.change)
    } else if (head.kind === 'saved') say(t('save.done', { runs: head.runs.join(', ') }))
    else if (head.kind === 'measured') say(t('measure.gap', { bench: head.bench + 1, gap: head.gap.toPrecision(3) }))
  }

  #see(frame: Decoded<Frame>): void {
    this.live = frame
    this.series = grown(this.series, frame.head.step, frame.head.benches)
    requestAnimationFrame(() => this.#socket?.readyState === WebSocket.OPEN && this.send({ do: 'seen', seq: frame.head.seq }))
  }

  #start(opened: Decoded<Opened>): void {
    this.#forget()
    this.opened = opened
    this.#undo = null
    this.busy = false
    const kept = this.#joining && this.draft
    this.#joining = false
    this.base = structuredClone(opened.head.setup)
    this.draft = kept || structuredClone(opened.head.setup)
    this.#started?.()
    this.#started = null
    this.bench = Math.min(this.bench, opened.head.benches.length - 1)
    this.#ask()
    if (this.#again) this.send({ do: 'play', rate: this.rate })
    this.#again = false
    void api.recorded(this.id).then((recorded) => {
      if (this.opened !== opened || !recorded.length) return
      const newer = this.live
      this.series = recalled(recorded)
      if (newer) this.series = grown(this.series, newer.head.step, newer.head.benches)
    }, lament)
  }

  /** Have frames hold what is shown: the model's graph needs surface and manifold at all times. */
  #ask(): void {
    this.send({ do: 'view', surface: true, manifold: true, arrows: this.layers.arrows })
  }

  #wear(layers: Layers | undefined): void {
    if (!layers) return
    const known = Object.keys(this.layers) as (keyof Layers)[]
    this.layers = Object.fromEntries(known.map((name) => [name, layers[name] !== false && (layers[name] ?? this.layers[name])])) as unknown as Layers // prettier-ignore
  }
}

export const lab = new Lab()
