// Remotion, from a bundle that lies ready: node render.mjs SCENE FRAMES OUTPUT PRESET TABS
import path from 'node:path';
import { renderMedia, selectComposition } from '@remotion/renderer';

const [scene, frames, output, preset, tabs] = process.argv.slice(2);
const common = {
  serveUrl: path.join(import.meta.dirname, 'bundled'),
  browserExecutable: process.env.CHROMIUM,
  logLevel: 'warn',
};
const composition = await selectComposition({ ...common, id: scene });
await renderMedia({
  ...common,
  composition,
  codec: 'h264',
  crf: 18,
  x264Preset: preset,
  pixelFormat: 'yuv420p',
  frameRange: [0, frames - 1],
  concurrency: +tabs,
  outputLocation: output,
});
process.exit(0);
