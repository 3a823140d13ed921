// Messages as `wire.py` packs them: a JSON header behind its length, then arrays. Decoded in place, nothing is copied.

import type { Message } from './contract'

/** Numbers as they came: a value is the number times `scale`. */
export interface Numbers {
  values: Int16Array | Uint8Array
  scale: number
  shape: number[]
}
export type Arrays = Record<string, Numbers>

export interface Decoded<Head = Message> {
  head: Head
  arrays: Arrays
}

const KINDS = { u1: Uint8Array, i2: Int16Array }
const text = new TextDecoder('utf-8', { fatal: true })

/** Raises `Error` for what is no message. */
export function decode(message: ArrayBuffer): Decoded {
  if (message.byteLength < 4) throw new Error('a message of the lab is cut short.')
  const body = 4 + new DataView(message).getUint32(0, true)
  if (body > message.byteLength) throw new Error('a message of the lab is cut short.')
  const head = JSON.parse(text.decode(new Uint8Array(message, 4, body - 4))) as Message
  const arrays: Arrays = {}
  for (const { name, type, shape, scale, at } of head.arrays) {
    const count = shape.reduce((product, size) => product * size, 1)
    arrays[name] = { values: new KINDS[type](message, body + at, count), scale, shape }
  }
  return { head, arrays }
}
