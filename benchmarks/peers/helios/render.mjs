// Helios: node render.mjs URL FRAMES OUTPUT PRESET WORKERS
import path from 'node:path';
import { RenderOrchestrator, Renderer } from '@helios-project/renderer';

const [url, frames, output, preset, workers] = process.argv.slice(2);
const options = {
  width: 1920,
  height: 1080,
  fps: 30,
  frameCount: +frames,
  durationInSeconds: frames / 30,
  mode: url.includes('/canvas.html') ? 'canvas' : 'dom',
  crf: 18,
  preset,
  pixelFormat: 'yuv420p',
  ffmpegPath: process.env.FFMPEG,
  browserConfig: { executablePath: path.join(import.meta.dirname, 'chromium'), args: ['--no-sandbox'] },
};
if (+workers > 1) await RenderOrchestrator.render(url, output, { ...options, concurrency: +workers });
else await new Renderer(options).render(url, output);
process.exit(0);
