// The same chance in every run. Runs in every document, worker and worklet before its first script, and knows of nothing else.
config => {
  'use strict';
  const define = (object, name, value) =>
    Object.defineProperty(object, name, {value, writable: true, configurable: true, enumerable: true});
  // A seeded generator (mulberry32).
  let state = (config.seed ^ 0x9e3779b9) >>> 0;
  const random32 = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  define(Math, 'random', () => (random32() * 0x200000 + (random32() >>> 11)) / 0x20000000000000);
  if (!globalThis.Crypto) return;
  define(Crypto.prototype, 'getRandomValues', array => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let index = 0; index < bytes.length; index++) bytes[index] = random32() >>> 24;
    return array;
  });
  define(Crypto.prototype, 'randomUUID', () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    const hex = [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  });
}
