// What keys do. They are left alone where somebody types, chooses, or has a dialog open.

import { lab } from './lab.svelte'

/** Keys and the string that says what they do; shown by `?`. */
export const KEYS: [key: string, does: string][] = [
  ['Space', 'keys.play'],
  ['S', 'keys.step'],
  ['D', 'keys.judge'],
  ['G', 'keys.generator'],
  ['L', 'keys.slow'],
  ['R', 'keys.reset'],
  ['← →', 'keys.scrub'],
  ['Esc', 'keys.live'],
  ['?', 'keys.help'],
]

export function onkey(event: KeyboardEvent, help: () => void): void {
  const target = event.target instanceof Element ? event.target : null
  const on = target?.closest('dialog:not([open])') ? null : target // a closed dialog may hold the focus a moment longer
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return
  if (document.querySelector('dialog:modal')) return // wherever the focus has gone
  if (on?.closest('input:not([type=checkbox]), textarea, select, dialog, [role=dialog], [role=application]')) return
  if (event.key === ' ' && on?.closest('button, summary, a, label, input')) return
  const does: Record<string, () => unknown> = {
    ' ': () => lab.toggle(),
    s: () => lab.send({ do: 'step', who: 'both' }),
    d: () => lab.send({ do: 'step', who: 'D' }),
    g: () => lab.send({ do: 'step', who: 'G' }),
    l: () => lab.send({ do: 'slow' }),
    r: () => lab.restart(),
    ArrowLeft: () => lab.move(event.shiftKey ? -10 : -1),
    ArrowRight: () => lab.move(event.shiftKey ? 10 : 1),
    Escape: () => lab.back(),
    '?': help,
  }
  const act = does[event.key.length === 1 ? event.key.toLowerCase() : event.key]
  if (!act) return
  event.preventDefault()
  act()
}
