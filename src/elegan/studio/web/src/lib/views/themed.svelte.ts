// Canvases read their colours from CSS once they paint, so they must hear when the theme changes.

let changes = $state(0)

if (typeof window !== 'undefined') {
  const told = () => changes++
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', told)
  new MutationObserver(told).observe(document.documentElement, { attributeFilter: ['data-theme', 'class', 'style'] })
}

/** A function to call in an effect: it runs again whenever the theme is another. */
export function themed(): () => number {
  return () => changes
}
