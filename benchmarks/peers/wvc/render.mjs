// web-video-creator, which takes pages from http only: node render.mjs PAGE FRAMES OUTPUT
// It keeps its browser's profile and its parts in ./tmp.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import WebVideoCreator from 'web-video-creator';

const [page, frames, output] = process.argv.slice(2);
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.jpg': 'image/jpeg' };

const server = http.createServer((request, response) => {
  const file = path.join(path.dirname(page), path.basename(new URL(request.url, 'http://x').pathname));
  fs.readFile(file, (error, data) => {
    response.writeHead(error ? 404 : 200, { 'content-type': TYPES[path.extname(file)] ?? 'text/plain' });
    response.end(data);
  });
});
await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));

const creator = new WebVideoCreator();
creator.config({
  browserExecutablePath: process.env.CHROMIUM,
  ffmpegExecutablePath: process.env.FFMPEG,
  ffprobeExecutablePath: process.env.FFPROBE,
  browserUseGPU: false,
  allowUnsafeContext: true,
});
const video = creator.createSingleVideo({
  url: `http://127.0.0.1:${server.address().port}/${path.basename(page)}`,
  width: 1920,
  height: 1080,
  fps: 30,
  duration: (frames * 1000) / 30,
  outputPath: output,
  showProgress: false,
});
video.once('completed', () => process.exit(0));
video.once('error', error => {
  console.error(error);
  process.exit(1);
});
video.start();
