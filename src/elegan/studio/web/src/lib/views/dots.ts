// Paints discs into pixels by hand: a frame has thousands, and a canvas takes its time over each.

/** Stamp discs of a colour at `places` x, y onto pixels (RGBA, not premultiplied, `size` a side), over each other. */
export function stamp(
  pixels: Uint8ClampedArray,
  size: number,
  places: Float32Array,
  count: number,
  radius: number,
  [red, green, blue]: ArrayLike<number> & Iterable<number>,
  opacity: number,
): void {
  const reach = radius + 0.5
  for (let i = 0; i < 2 * count; i += 2) {
    const [x, y] = [places[i], places[i + 1]]
    if (!(x > -reach && y > -reach && x < size + reach && y < size + reach)) continue
    const top = Math.max(Math.ceil(y - reach - 0.5), 0)
    const bottom = Math.min(Math.floor(y + reach - 0.5), size - 1)
    for (let row = top; row <= bottom; row++) {
      const down = row + 0.5 - y
      const half = Math.sqrt(Math.max(reach * reach - down * down, 0))
      const left = Math.max(Math.ceil(x - half - 0.5), 0)
      const right = Math.min(Math.floor(x + half - 0.5), size - 1)
      for (let column = left; column <= right; column++) {
        const across = column + 0.5 - x
        const cover = Math.min(reach - Math.sqrt(across * across + down * down), 1) * opacity // of the pixel's area
        if (cover <= 0) continue
        const at = 4 * (row * size + column)
        const under = (pixels[at + 3] / 255) * (1 - cover)
        const whole = cover + under
        pixels[at] = (red * cover + pixels[at] * under) / whole
        pixels[at + 1] = (green * cover + pixels[at + 1] * under) / whole
        pixels[at + 2] = (blue * cover + pixels[at + 2] * under) / whole
        pixels[at + 3] = 255 * whole
      }
    }
  }
}
