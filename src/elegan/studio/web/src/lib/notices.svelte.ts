// What the page says at its edge: what went wrong, what was done.

export interface Notice {
  id: number
  text: string
  bad: boolean
}

const STAYS = 7_000 // milliseconds; what went wrong stays until it is put away
const MOST = 4
let made = 0
let notices = $state<Notice[]>([])

export const standing = (): Notice[] => notices

export function say(text: string, bad = false): void {
  const id = made++
  notices = [...notices.filter((one) => one.text !== text), { id, text, bad }].slice(-MOST)
  if (!bad) setTimeout(() => away(id), STAYS)
}

export function away(id: number): void {
  notices = notices.filter((one) => one.id !== id)
}

/** Something else is tried: what went wrong before is of the past. */
export function settle(): void {
  notices = notices.filter(({ bad }) => !bad)
}

/** Say what went wrong, if it is an error with a sentence. */
export function lament(error: unknown): void {
  say(error instanceof Error ? error.message : String(error), true)
}
