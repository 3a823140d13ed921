import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [svelte()],
  base: './',
  build: {
    outDir: '../page',
    emptyOutDir: true,
    sourcemap: false,
    assetsInlineLimit: 0, // the page's policy takes nothing that is not a file of its own
    modulePreload: { polyfill: false },
    target: 'es2022',
  },
  server: { proxy: { '/api': { target: 'http://127.0.0.1:8321', ws: true } } },
  test: { include: ['tests/**/*.test.ts', 'src/**/*.test.ts'] },
})
