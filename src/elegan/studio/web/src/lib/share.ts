// A setup and what is shown of it, in the fragment of the address, which browsers send to no server.

import type { Setup } from './contract'
import type { Layers } from './views/plane'

export interface Shared {
  setup: Setup
  layers: Layers
  average: boolean
}

export const MARK = '#lab='
const LONGEST = 32_000 // characters that browsers, mails and chats carry without cutting them
const MOST = 8 << 20 // bytes that a link may inflate to

async function through(bytes: Uint8Array, stream: CompressionStream | DecompressionStream): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let size = 0
  const reader = new Blob([bytes as BlobPart]).stream().pipeThrough(stream as ReadableWritablePair<Uint8Array, Uint8Array>).getReader() // prettier-ignore
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    size += part.value.length
    if (size > MOST) throw new RangeError('the link holds too much.')
    parts.push(part.value)
  }
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer())
}

/** The fragment of a link; null if the setup is too large for one. */
export async function toHash(shared: Shared): Promise<string | null> {
  const bytes = await through(new TextEncoder().encode(JSON.stringify(shared)), new CompressionStream('deflate-raw'))
  const letters = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')
  const hash = MARK + btoa(letters).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')
  return hash.length > LONGEST ? null : hash
}

/** What a fragment holds; null if it is no link of ours, or damaged. The server checks the setup. */
export async function fromHash(hash: string): Promise<Shared | null> {
  if (!hash.startsWith(MARK)) return null
  try {
    const letters = atob(hash.slice(MARK.length).replaceAll('-', '+').replaceAll('_', '/'))
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0))
    const found = JSON.parse(new TextDecoder().decode(await through(bytes, new DecompressionStream('deflate-raw')))) as Shared
    return typeof found?.setup === 'object' && found.setup ? found : null
  } catch {
    return null
  }
}
