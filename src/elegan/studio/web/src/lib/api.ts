// The server's HTTP. Whatever goes wrong is a `Fault` with a sentence that a person understands.

import type { Catalogue, Data, LabInfo, Preview, Recorded, RunHistory, RunInfo, Setup, Spelled } from './contract'
import { t } from './strings'
import { decode, type Decoded } from './wire'

/** status: of HTTP; 0 if the server did not answer at all. */
export class Fault extends Error {
  constructor(
    readonly status: number,
    said: string,
  ) {
    super(said)
  }
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(`/api/${path}`, init)
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error
    throw new Fault(0, t('error.network'))
  }
  if (answer.ok) return answer
  const said = answer.status === 401 ? '' : await answer.json().then(({ error }) => error as unknown, () => '') // prettier-ignore
  throw new Fault(answer.status, answer.status === 401 ? t('error.link') : String(said || t('error.status', { status: answer.status }))) // prettier-ignore
}

const get = async <T>(path: string): Promise<T> => (await ask(path)).json() as Promise<T>
const post = async <T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> =>
  (await ask(path, { method: 'POST', body: body === undefined ? undefined : JSON.stringify(body), signal })).json() as Promise<T>

export const api = {
  catalogue: () => get<Catalogue>('catalogue'),
  labs: () => get<LabInfo[]>('labs'),
  open: (setup: Setup) => post<LabInfo>('labs', setup),
  close: (lab: string) => ask(`labs/${lab}`, { method: 'DELETE' }),
  recorded: (lab: string) => get<Recorded[]>(`labs/${lab}/frames`),
  spelled: (lab: string) => get<Spelled>(`labs/${lab}/spelled`),
  preview: (data: Data, signal?: AbortSignal) => post<Preview>('points', data, signal),
  runs: () => get<RunInfo[]>('runs'),
  run: (id: string) => get<RunHistory>(`runs/${id}`),
  openRun: (id: string) => post<LabInfo>(`runs/${id}/open`),
  picture: (id: string, step: number) => `/api/runs/${id}/pictures/${step}`,

  async frame(lab: string, seq: number): Promise<Decoded> {
    return decode(await (await ask(`labs/${lab}/frames/${seq}`)).arrayBuffer())
  },

  /** Frames as a file; the range may be left out. */
  async exported(lab: string, kind: string, first?: number, last?: number): Promise<Blob> {
    const range = first === undefined ? '' : `?first=${first}&last=${last}`
    return (await ask(`labs/${lab}/export.${kind}${range}`)).blob()
  },

  stream(lab: string): WebSocket {
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/api/labs/${lab}/stream`)
    socket.binaryType = 'arraybuffer'
    return socket
  },
}

/** Hand a file to the person. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(blob)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}
