// puppeteer-capture: node render.mjs URL FRAMES OUTPUT PRESET
import path from 'node:path';
import puppeteerCapture from 'puppeteer-capture';

const [url, frames, output, preset] = process.argv.slice(2);
const browser = await puppeteerCapture.launch({
  executablePath: path.join(import.meta.dirname, 'chrome-headless-shell'), // it refuses a browser of another name
  args: ['--no-sandbox', '--window-size=1920,1080'],
  defaultViewport: null,
});
const page = await browser.newPage();
const recorder = await puppeteerCapture.capture(page, {
  fps: 30,
  size: '1920x1080',
  ffmpeg: process.env.FFMPEG,
  customFfmpegConfig: async ffmpeg => {
    ffmpeg.outputOptions(['-preset', preset, '-crf', '18', '-pix_fmt', 'yuv420p']);
  },
});
await page.goto(url, { waitUntil: 'load' });
// The page begins with the first frame that is captured.
await page.evaluate('window.hold = () => !__PuppeteerCaptureViaHeadlessExperimental.active');
const done = new Promise((resolve, reject) => {
  recorder.on('frameRecorded', index => {
    if (index + 1 >= +frames) resolve();
  });
  recorder.on('frameCaptureFailed', reject);
});
await recorder.start(output, { waitForFirstFrame: false });
await done;
await recorder.stop();
await recorder.detach();
await browser.close();
