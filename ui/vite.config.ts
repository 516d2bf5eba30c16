/// <reference types="vitest/config" />
// Build of the UI. Every URL in the output is relative, so that Pharos can be served below any path
// prefix; nothing is inlined, so that the strict content security policy of crates/web holds.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const backend = process.env.PHAROS_URL ?? 'http://127.0.0.1:9090';

export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    // Source maps would triple what is embedded in the binary; `npm run dev` has them.
    sourcemap: false,
    reportCompressedSize: false,
    // Every browser that runs this target knows modulepreload.
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      '/api': { target: backend, changeOrigin: false },
      '/auth': { target: backend, changeOrigin: false },
    },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
