// Makes what render.mjs renders, for all scenes: node bundle.mjs FOLDER
import path from 'node:path';
import { bundle } from '@remotion/bundler';

const here = import.meta.dirname;
await bundle({
  entryPoint: path.join(here, 'scenes', 'index.jsx'),
  publicDir: path.join(here, 'public'),
  outDir: process.argv[2],
});
