// A worker that writes each frame into a file of the browser's private file system: as it is captured, or made of a picture
// of the page's one canvas (direct.js), and then the same, bit for bit.
'use strict';
// Before the first frame: what tells this file from all others.
const HEADER_BYTES = 4096;
const PAGE_BYTES = 65536;
let file, size, slots, slot = 0;
const put = planes => {
  const bytes = planes.byteLength, at = HEADER_BYTES + slot * bytes;
  slot = (slot + 1) % slots;
  file.write(planes, {at});
  return {at, bytes};
};
const write = async frame => {
  const {format, timestamp, visibleRect} = frame;
  if (format !== 'I420' || visibleRect.width !== size.width || visibleRect.height !== size.height)
    throw new Error(`the browser hands out ${format} of ${visibleRect.width}x${visibleRect.height}`);
  const bytes = frame.allocationSize();
  if (write.buffer?.byteLength !== bytes) write.buffer = new Uint8Array(bytes);
  await frame.copyTo(write.buffer);
  return {...put(write.buffer), timestamp};
};
const makeConverter = code => {
  const {width, height} = size, pixels = width * height;
  if (width % 2 || height % 2 || width < 8) return null;
  const module = new WebAssembly.Module(Uint8Array.from(atob(code), char => char.charCodeAt(0)));
  const {memory, convert} = new WebAssembly.Instance(module).exports;
  memory.grow(Math.ceil(pixels * 5.5 / PAGE_BYTES));
  const from = new Uint8Array(memory.buffer, 0, pixels * 4), to = new Uint8Array(memory.buffer, pixels * 4, pixels * 1.5);
  let last = null;
  // `ground` is the colour under the picture. Null if it is no picture for us, or something else is seen through it.
  return async ({picture, ground, known}) => {
    const {format, codedWidth, codedHeight} = picture;
    if (!/^BGR[AX]$/.test(format) || codedWidth !== width || codedHeight !== height) return null;
    await picture.copyTo(from);
    const opaque = format === 'BGRX', found = convert(0, pixels * 4, width, height, opaque ? 0 : ground ?? 0);
    const changed = found & 1, clear = found & 2 && !opaque;
    if (clear && ground === null) return null;
    if (known && last && !changed) return {...last, same: true};
    last = put(to);
    return last;
  };
};
let convert;
const serve = async ({readable, mark, converter, ...given}) => {
  ({slots, ...size} = given);
  const folder = await navigator.storage.getDirectory();
  file = await (await folder.getFileHandle(mark, {create: true})).createSyncAccessHandle();
  file.write(new TextEncoder().encode(mark), {at: 0});
  file.flush();
  convert = makeConverter(converter);
  postMessage({opened: true, converts: Boolean(convert)});
  const reader = readable.getReader();
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    try { postMessage(await write(value)); } finally { value.close(); }
  }
};
const take = async given => {
  try { postMessage({taken: await convert(given)}); } finally { given.picture.close(); }
};
onmessage = ({data}) => {
  (data.picture ? take(data) : serve(data)).catch(error => postMessage({failed: error.message}));
};
