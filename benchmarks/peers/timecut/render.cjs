// timecut in its quickest way, JPEG into a pipe: node render.cjs URL FRAMES OUTPUT PRESET
const timecut = require('timecut');

const [url, frames, output, preset] = process.argv.slice(2);
timecut({
  url,
  viewport: { width: 1920, height: 1080 },
  fps: 30,
  frames: +frames,
  output,
  quiet: true,
  executablePath: process.env.CHROMIUM,
  ffmpegPath: process.env.FFMPEG,
  launchArguments: ['--no-sandbox'],
  pipeMode: true,
  screenshotType: 'jpeg',
  screenshotQuality: 0.8,
  outputOptions: ['-c:v', 'libx264', '-preset', preset, '-crf', '18'],
}).then(
  () => process.exit(0),
  error => {
    console.error(error);
    process.exit(1);
  },
);
