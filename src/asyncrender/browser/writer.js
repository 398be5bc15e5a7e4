// A worker that writes each captured frame, as it is, into a file of the browser's private file system.
'use strict';
// Before the first frame: what tells this file from all others.
const HEADER_BYTES = 4096;
const write = async (frame, file, slot, {width, height}) => {
  const {format, timestamp, visibleRect} = frame;
  if (format !== 'I420' || visibleRect.width !== width || visibleRect.height !== height)
    throw new Error(`the browser hands out ${format} of ${visibleRect.width}x${visibleRect.height}`);
  const bytes = frame.allocationSize();
  if (write.buffer?.byteLength !== bytes) write.buffer = new Uint8Array(bytes);
  await frame.copyTo(write.buffer);
  const at = HEADER_BYTES + slot * bytes;
  file.write(write.buffer, {at});
  return {at, bytes, timestamp};
};
const serve = async ({readable, slots, mark, ...size}) => {
  const folder = await navigator.storage.getDirectory();
  const file = await (await folder.getFileHandle(mark, {create: true})).createSyncAccessHandle();
  file.write(new TextEncoder().encode(mark), {at: 0});
  file.flush();
  postMessage({opened: true});
  const reader = readable.getReader();
  for (let slot = 0; ; slot = (slot + 1) % slots) {
    const {value, done} = await reader.read();
    if (done) return;
    try { postMessage(await write(value, file, slot, size)); } finally { value.close(); }
  }
};
onmessage = ({data}) => { serve(data).catch(error => postMessage({failed: error.message})); };
