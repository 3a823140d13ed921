import { describe, expect, it } from 'vitest'
import { decode } from '../src/lib/wire'

/** A message as `wire.py` specifies it, byte by byte. */
function message(header: string, body: number[]): ArrayBuffer {
  const text = new TextEncoder().encode(header)
  const padded = Math.ceil((4 + text.length) / 8) * 8
  const bytes = new Uint8Array(padded + body.length).fill(0x20, 4, padded)
  new DataView(bytes.buffer).setUint32(0, padded - 4, true)
  bytes.set(text, 4)
  bytes.set(body, padded)
  return bytes.buffer
}

const HEADER =
  '{"kind":"saved","runs":["läuft"],"arrays":[' +
  '{"name":"0/fake","type":"i2","shape":[2,2],"scale":0.5,"at":0},{"name":"0/judged","type":"u1","shape":[3],"scale":1,"at":8}]}'
const BODY = [1, 0, 0xff, 0xff, 0, 1, 0xff, 0x7f, 0, 128, 255, 0, 0, 0, 0, 0]

describe('a message of the lab', () => {
  it('is a header and arrays with their scales', () => {
    const { head, arrays } = decode(message(HEADER, BODY))
    expect(head).toMatchObject({ kind: 'saved', runs: ['läuft'] })
    expect([...arrays['0/fake'].values]).toEqual([1, -1, 256, 32_767]) // little endian, signed
    expect(arrays['0/fake']).toMatchObject({ scale: 0.5, shape: [2, 2] })
    expect([...arrays['0/judged'].values]).toEqual([0, 128, 255])
  })
  it('is not copied', () => {
    const bytes = message(HEADER, BODY)
    expect(decode(bytes).arrays['0/fake'].values.buffer).toBe(bytes)
  })
  it('is refused when it is cut short, wherever', () => {
    const whole = message(HEADER, BODY)
    for (const size of [0, 3, 4, 40, whole.byteLength - BODY.length + 4]) {
      expect(() => decode(whole.slice(0, size))).toThrow()
    }
  })
})
