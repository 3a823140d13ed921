// What the browser keeps for this page between visits. Where it keeps nothing (a private window), all works the same.

export function remembered<T extends string>(name: string, known: readonly T[]): T | null {
  try {
    const found = localStorage.getItem(`elegan.${name}`)
    return known.includes(found as T) ? (found as T) : null
  } catch {
    return null
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`elegan.${name}`, value)
  } catch {
    // it is forgotten, then
  }
}
