// Revideo with its exporter in the page: node render.cjs SCENE FRAMES OUTPUT
const path = require('path');

process.env.DISABLE_TELEMETRY = 'true';
const { renderVideo } = require('@revideo/renderer');

const [scene, frames, output] = process.argv.slice(2);
process.chdir(__dirname); // it finds its project from the working directory
renderVideo({
  projectFile: './scenes/project.ts',
  variables: { frames: +frames },
  settings: {
    outFile: path.basename(output),
    outDir: path.dirname(output),
    workers: 1, // with two it hangs
    logProgress: false,
    ffmpeg: { ffmpegPath: process.env.FFMPEG, ffprobePath: process.env.FFPROBE },
    puppeteer: { executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] },
    viteConfig: { define: { 'process.env.SCENE': JSON.stringify(scene) }, logLevel: 'error' },
    projectSettings: { range: [0, (frames - 1) / 30], exporter: { name: '@revideo/core/wasm' } },
  },
}).then(
  () => process.exit(0),
  error => {
    console.error(error);
    process.exit(1);
  },
);
