// What the page sees in place of the browser's own: clocks, timers and requests that follow the renderer's clock. Runs in
// every document, and in every worker (see clock.js), before its first script; what only documents have: elements.js.
(config, key) => {
  'use strict';
  const {clock, native, define, defineGetter, defineConstructor} = window[key];
  const EPSILON = 1e-6;  // ms; see clock.js

  // ---- clocks and timers --------------------------------------------------------------------------------------------

  const entry = (callback, args = []) => ({
    callback: typeof callback === 'function' ? callback : () => (0, eval)(String(callback)),
    args, window, document, report: native.reportError,
  });
  const needFunction = (callback, name) => {
    if (typeof callback !== 'function')
      throw new TypeError(`Failed to execute '${name}' on 'Window': parameter 1 is not of type 'Function'.`);
    return entry(callback);
  };
  const api = {
    setTimeout(callback, delay, ...args) { return clock.addTimer(entry(callback, args), delay, false); },
    setInterval(callback, delay, ...args) { return clock.addTimer(entry(callback, args), delay, true); },
    clearTimeout(id) { clock.removeTimer(Number(id)); },
    clearInterval(id) { clock.removeTimer(Number(id)); },
    requestAnimationFrame(callback) { return clock.addFrame(needFunction(callback, 'requestAnimationFrame')); },
    cancelAnimationFrame(id) { clock.removeFrame(Number(id)); },
    requestIdleCallback(callback) { return clock.addIdle(needFunction(callback, 'requestIdleCallback')); },
    cancelIdleCallback(id) { clock.removeIdle(Number(id)); },
  };
  for (const [name, value] of Object.entries(api)) if (name in window) define(window, name, value);

  const epochNow = () => Math.floor(config.epoch + clock.now + EPSILON);
  const VirtualDate = new Proxy(native.Date, {
    apply: () => new native.Date(epochNow()).toString(),
    construct: (target, args, newTarget) => Reflect.construct(target, args.length ? args : [epochNow()], newTarget),
  });
  define(native.Date, 'now', () => epochNow());
  define(native.Date.prototype, 'constructor', VirtualDate);
  define(window, 'Date', VirtualDate);

  define(Performance.prototype, 'now', () => clock.now);
  defineGetter(Performance.prototype, 'timeOrigin', () => config.epoch);
  defineGetter(Event.prototype, 'timeStamp', () => clock.now);
  defineConstructor('File', (construct, [bits, name, options, ...rest]) =>
    construct(name === undefined ? [] : [bits, name, {lastModified: epochNow(), ...options}, ...rest]));
  const mark = Performance.prototype.mark;
  define(Performance.prototype, 'mark', function (name, options) {
    return mark.call(this, name, {startTime: clock.now, ...options});
  });
  const measure = Performance.prototype.measure;
  define(Performance.prototype, 'measure', function (name, start, end) {
    if (typeof start === 'object' && start !== null) {
      const whole = 'duration' in start || 'end' in start ? start : {...start, end: clock.now};
      return measure.call(this, name, 'start' in whole || 'duration' in whole ? whole : {...whole, start: 0});
    }
    return measure.call(this, name, {start: start ?? 0, end: end ?? clock.now});
  });
  for (const name of ['format', 'formatToParts']) {
    const descriptor = Object.getOwnPropertyDescriptor(Intl.DateTimeFormat.prototype, name);
    const wrap = original => function (date, ...rest) {
      return original.call(this, date === undefined ? epochNow() : date, ...rest);
    };
    if (descriptor.get)
      defineGetter(Intl.DateTimeFormat.prototype, name, function () { return wrap(descriptor.get.call(this)).bind(this); });
    else define(Intl.DateTimeFormat.prototype, name, wrap(descriptor.value));
  }
  if (window.Temporal) {
    const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;
    const instant = () => window.Temporal.Instant.fromEpochMilliseconds(epochNow());
    const zoned = (where = zone()) => instant().toZonedDateTimeISO(where);
    const now = {
      instant, zonedDateTimeISO: zoned,
      plainDateTimeISO: where => zoned(where).toPlainDateTime(),
      plainDateISO: where => zoned(where).toPlainDate(),
      plainTimeISO: where => zoned(where).toPlainTime(),
    };
    for (const [name, value] of Object.entries(now)) define(window.Temporal.Now, name, value);
  }
  define(AbortSignal, 'timeout', delay => {
    const controller = new AbortController();
    const late = () => controller.abort(new DOMException('signal timed out', 'TimeoutError'));
    clock.addTimer(entry(late), delay, false);
    return controller.signal;
  });
  if (window.scheduler?.postTask) {
    const postTask = Scheduler.prototype.postTask;
    define(Scheduler.prototype, 'postTask', function (callback, options = {}) {
      const {delay = 0, ...rest} = options;
      if (!(delay > 0)) return postTask.call(this, callback, rest);
      return new Promise((resolve, reject) => {
        const begin = () => postTask.call(this, callback, rest).then(resolve, reject);
        const id = clock.addTimer(entry(begin), delay, false);
        rest.signal?.addEventListener('abort', () => { clock.removeTimer(id); reject(rest.signal.reason); }, {once: true});
      });
    });
  }

  // ---- answers from outside hold the clock --------------------------------------------------------------------------

  const held = promise => {
    const release = clock.hold();
    promise.then(release, release);
    return promise;
  };
  const fetch = window.fetch.bind(window);
  define(window, 'fetch', (...args) => held(fetch(...args)));
  const endless = response => /event-stream|ndjson/.test(response.headers.get('content-type') ?? '');
  // What a page itself puts into a stream may need its clock.
  const fed = new WeakSet();
  const feeds = (name, isFed) => defineConstructor(name, (construct, args) => {
    const made = construct(args);
    if (isFed(args[0])) fed.add(made);
    return made;
  });
  feeds('ReadableStream', () => true);
  feeds('Response', body => fed.has(body));
  for (const name of ['arrayBuffer', 'blob', 'bytes', 'formData', 'json', 'text']) {
    const read = Response.prototype[name];
    define(Response.prototype, name, function () {
      const reading = read.call(this);
      return endless(this) || fed.has(this) ? reading : held(reading);
    });
  }
  // Bodies that come from outside and end.
  const bodies = new WeakSet();
  const body = Object.getOwnPropertyDescriptor(Response.prototype, 'body').get;
  defineGetter(Response.prototype, 'body', function () {
    const stream = body.call(this);
    if (stream && this.type !== 'default' && !endless(this)) bodies.add(stream);
    return stream;
  });
  const Stream = ReadableStream.prototype, {getReader, pipeThrough, pipeTo, tee, values} = Stream;
  const holding = (stream, object, name) => {
    const read = object[name].bind(object);
    if (bodies.has(stream)) define(object, name, (...args) => held(read(...args)));
    return object;
  };
  define(Stream, 'getReader', function (...args) { return holding(this, getReader.apply(this, args), 'read'); });
  // A transform of the page's own may wait for its clock.
  const timeless = [TextDecoderStream, TextEncoderStream, CompressionStream, DecompressionStream];
  define(Stream, 'pipeThrough', function (transform, ...rest) {
    const through = pipeThrough.call(this, transform, ...rest);
    if (bodies.has(this) && timeless.some(one => transform instanceof one)) bodies.add(through);
    return through;
  });
  define(Stream, 'tee', function () {
    const both = tee.call(this);
    if (bodies.has(this)) for (const one of both) bodies.add(one);
    return both;
  });
  define(Stream, 'pipeTo', function (...args) {
    const piping = pipeTo.apply(this, args);
    return bodies.has(this) ? held(piping) : piping;
  });
  for (const name of ['values', Symbol.asyncIterator])
    define(Stream, name, function (...args) { return holding(this, values.apply(this, args), 'next'); });
  for (const name of ['compile', 'compileStreaming', 'instantiate', 'instantiateStreaming']) {
    const compile = WebAssembly[name];
    define(WebAssembly, name, (...args) => held(compile(...args)));
  }
  const send = XMLHttpRequest.prototype.send;
  define(XMLHttpRequest.prototype, 'send', function (...args) {
    const release = clock.hold();
    this.addEventListener('loadend', release, {once: true});
    try { return send.apply(this, args); } catch (error) { release(); throw error; }
  });
  // What the browser does beside the page: its answer, too, comes at the same time on every machine.
  const beside = {
    Blob: ['arrayBuffer', 'bytes', 'text'],
    Cache: ['add', 'addAll', 'delete', 'keys', 'match', 'matchAll', 'put'],
    CacheStorage: ['delete', 'has', 'keys', 'match', 'open'],
    SubtleCrypto: Object.getOwnPropertyNames(window.SubtleCrypto?.prototype ?? {}).filter(name => name !== 'constructor'),
    OffscreenCanvas: ['convertToBlob'],
    BaseAudioContext: ['decodeAudioData'],
    OfflineAudioContext: ['startRendering'],
    ImageDecoder: ['decode'],
    Worklet: ['addModule'],
    VideoDecoder: ['flush'],
    VideoEncoder: ['flush'],
    AudioDecoder: ['flush'],
    AudioEncoder: ['flush'],
    FontFace: ['load'],
    FontFaceSet: ['load'],
    HTMLImageElement: ['decode'],
    StorageManager: ['estimate', 'getDirectory'],
    FileSystemDirectoryHandle: ['getDirectoryHandle', 'getFileHandle', 'removeEntry'],
    FileSystemFileHandle: ['createWritable', 'getFile'],
    FileSystemWritableFileStream: ['close', 'seek', 'truncate', 'write'],
    IDBFactory: ['databases'],
    MediaDevices: ['enumerateDevices'],
    GPU: ['requestAdapter'],
    GPUAdapter: ['requestDevice'],
  };
  const methods = (type, names, wrap) => {
    const object = window[type]?.prototype ?? {};
    for (const [name, begin] of names.map(name => [name, object[name]]).filter(([, begin]) => begin))
      define(object, name, function (...args) { return wrap(begin.apply(this, args), this); });
  };
  for (const [type, names] of Object.entries(beside)) methods(type, names, held);
  methods('FileSystemDirectoryHandle', ['entries', 'keys', 'values', Symbol.asyncIterator], entries => {
    const next = entries.next.bind(entries);
    define(entries, 'next', (...args) => held(next(...args)));
    return entries;
  });
  // A lock that is free is given before the browser says which there are; so is one that has just become so.
  const {query} = window.LockManager?.prototype ?? {};
  methods('LockManager', ['query'], held);
  methods('LockManager', ['request'], (lock, manager) => {
    const given = () => { held(query.call(manager)); };
    given();
    lock.then(given, given);
    return lock;
  });
  Object.assign(window[key], {entry, methods});
  // Tasks that the page gives itself, which come in the order in which they were given.
  const given = answer => { clock.tasks++; return answer; };
  methods('MessagePort', ['postMessage'], given);
  methods('Scheduler', ['postTask'], given);
  // Whose message it is the browser sees by whose function has called its own.
  const postMessage = window.postMessage, setPostMessage = value => define(window, 'postMessage', value);
  if (document) defineGetter(window, 'postMessage', () => given(postMessage), setPostMessage);
  const heldUntil = (target, ...events) => {
    const release = clock.hold();
    for (const event of events) target.addEventListener(event, release, {once: true});
  };
  const readings = ['readAsArrayBuffer', 'readAsBinaryString', 'readAsDataURL', 'readAsText'];
  methods('FileReader', readings, (_, reader) => heldUntil(reader, 'loadend'));
  methods('IDBFactory', ['open', 'deleteDatabase'], request => {
    heldUntil(request, 'success', 'error', 'blocked');
    return request;
  });
  methods('IDBDatabase', ['transaction'], transaction => {
    heldUntil(transaction, 'complete', 'abort');
    return transaction;
  });
  // Whether the graphics card is done a page can but ask, again and again. A fence of ours after what it was told says so.
  const {fenceSync} = window.WebGL2RenderingContext?.prototype ?? {};
  methods('WebGL2RenderingContext', ['endQuery', 'fenceSync'], (answer, context) => {
    const fence = fenceSync.call(context, context.SYNC_GPU_COMMANDS_COMPLETE, 0);
    if (!fence) return answer;
    const release = clock.hold();
    const look = () => {
      if (context.isContextLost() || context.getSyncParameter(fence, context.SYNC_STATUS) === context.SIGNALED) {
        context.deleteSync(fence);
        release();
      } else clock.setRealTimeout(look, 1);
    };
    context.flush();
    clock.setRealTimeout(look, 0);
    return answer;
  });
  // How long it takes for it is the machine's affair.
  const measures = /disjoint_timer_query|parallel_shader_compile/i;
  for (const {prototype} of [window.WebGLRenderingContext, window.WebGL2RenderingContext].filter(Boolean)) {
    const {getExtension, getSupportedExtensions} = prototype;
    define(prototype, 'getExtension', function (name) {
      return measures.test(name) ? null : getExtension.call(this, name);
    });
    define(prototype, 'getSupportedExtensions', function () {
      return getSupportedExtensions.call(this)?.filter(name => !measures.test(name)) ?? null;
    });
  }
  const createBitmap = window.createImageBitmap.bind(window);
  define(window, 'createImageBitmap', (...args) => held(createBitmap(...args)));
}
