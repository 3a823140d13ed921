// Which language and which theme the page wears; both are remembered.

import { remembered, remember } from './memory'

export type Language = 'en' | 'zh-CN'
export type Theme = 'system' | 'light' | 'dark'
export const THEMES: Theme[] = ['system', 'light', 'dark']

const first = (): Language => (navigator.language?.startsWith('zh') ? 'zh-CN' : 'en')
let language = $state<Language>(remembered('language', ['en', 'zh-CN']) ?? (typeof navigator === 'undefined' ? 'en' : first()))
let theme = $state<Theme>(remembered('theme', THEMES) ?? 'system')

/** The language of every string. */
export function lang(): Language {
  return language
}

export function speak(chosen: Language): void {
  language = chosen
  remember('language', chosen)
  document.documentElement.lang = chosen
}

export function wears(): Theme {
  return theme
}

/** Wear a theme; 'system' is the one that the browser asks for. */
export function wear(chosen: Theme): void {
  theme = chosen
  remember('theme', chosen)
  if (chosen === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = chosen
}
