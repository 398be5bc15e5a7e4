// The page's clock. Runs in every document before the page's first script; the page then lives in virtual time, which
// moves only when the renderer says advance(frame). Documents of one origin share the clock of their top document.
(config, key) => {
  'use strict';
  const native = {
    setTimeout: window.setTimeout.bind(window),
    Date: window.Date,
    MessageChannel: window.MessageChannel,
    reportError: window.reportError.bind(window),
    fetch: window.fetch.bind(window),
    arrayBuffer: Response.prototype.arrayBuffer,
  };
  // Times closer than this, in ms, are the same instant: sums of rounded steps must not miss a frame.
  const EPSILON = 1e-6;
  // HTML, "timer initialization steps": from the sixth nested timer on, a delay is at least 4 ms.
  const NESTING_LIMIT = 5, NESTED_DELAY = 4;

  const define = (object, name, value) =>
    Object.defineProperty(object, name, {value, writable: true, configurable: true, enumerable: true});
  const defineGetter = (object, name, get, set) =>
    Object.defineProperty(object, name, {get, set, configurable: true, enumerable: true});

  // ---- the clock: one for all documents of one origin -------------------------------------------------------------

  const makeClock = () => {
    const timers = new Map(), windows = new Set(), anchors = new WeakMap();
    let frameCallbacks = new Map(), idleCallbacks = new Map();
    let nextId = 1, nesting = 0, pumping = false, advancing = false;
    const clock = {now: 0, windows, shadowRoots: new Set()};
    let holds = 0, released = () => {};
    const channel = new native.MessageChannel();
    // A task of its own: promise reactions of the callback before it have all run.
    const turns = [];
    channel.port1.onmessage = () => turns.shift()();
    const turn = () => new Promise(resolve => { turns.push(resolve); channel.port2.postMessage(0); });
    // While the page waits for an answer from outside, its time stands: answers come at the same time on every machine.
    clock.hold = () => {
      let held = true;
      holds++;
      return () => {
        if (!held) return;
        held = false;
        if (--holds === 0) released();
      };
    };
    const quiet = async () => {
      await turn();
      while (holds > 0) {
        const given = await new Promise(resolve => {
          released = () => resolve(true);
          native.setTimeout(() => resolve(false), config.requestSeconds * 1000);
        });
        await turn();
        if (!given) return;  // the renderer will say which request has no end
      }
    };
    const alive = entry => !entry.window.closed;
    const call = (entry, ...args) => {
      if (!alive(entry)) return;
      try { Reflect.apply(entry.callback, entry.window, args); } catch (error) { entry.report(error); }
    };

    clock.addTimer = (entry, delay, every) => {
      delay = Math.max(0, Math.trunc(Number(delay)) || 0);
      if (delay > 0x7fffffff) delay = 0;
      if (nesting >= NESTING_LIMIT) delay = Math.max(delay, NESTED_DELAY);
      const id = nextId++;
      timers.set(id, {...entry, at: clock.now + delay, every: every ? Math.max(delay, 1) : 0, nesting: nesting + 1});
      if (timers.get(id).at <= clock.now) pumpSoon();
      return id;
    };
    // A task of our own at an exact time, which stands until `before` is over.
    clock.addTask = (task, at) => {
      const id = nextId++;
      timers.set(id, {...task, at, every: 0, nesting: 0});
      if (at <= clock.now) pumpSoon();
      return id;
    };
    clock.removeTimer = id => { timers.delete(id); };
    clock.addFrame = entry => { const id = nextId++; frameCallbacks.set(id, entry); return id; };
    clock.removeFrame = id => { frameCallbacks.delete(id); };
    clock.addIdle = entry => { const id = nextId++; idleCallbacks.set(id, entry); return id; };
    clock.removeIdle = id => { idleCallbacks.delete(id); };

    const firstDue = until => {
      let found = null;
      for (const [id, timer] of timers)
        if (timer.at <= until + EPSILON && (found === null || timer.at < timers.get(found).at - EPSILON)) found = id;
      return found;
    };
    // One after the other: a task may stand for a while, and none may overtake it.
    let running = Promise.resolve();
    const runTimers = (until, enough = () => false) => {
      running = running.then(() => runDue(until, enough));
      return running;
    };
    const runDue = async (until, enough) => {
      for (let id; !enough() && (id = firstDue(until)) !== null;) {
        const timer = timers.get(id);
        clock.now = Math.max(clock.now, timer.at);
        if (timer.every) {
          timer.nesting++;
          timer.at += timer.nesting > NESTING_LIMIT ? Math.max(timer.every, NESTED_DELAY) : timer.every;
          timers.delete(id);
          timers.set(id, timer);
        } else timers.delete(id);
        if (timer.before) try { await timer.before(); } catch (error) { timer.report(error); }
        nesting = timer.nesting;
        call(timer, ...timer.args);
        nesting = 0;
        await quiet();
      }
    };
    // Timers that are due while the clock stands: setTimeout(f, 0) while the page loads, or after a response came.
    const pumpSoon = () => {
      if (pumping || advancing) return;
      pumping = true;
      native.setTimeout(async () => {
        if (!advancing) await runTimers(clock.now);
        pumping = false;
      }, 0);
    };
    const runBatch = async (batch, ...args) => {
      for (const [id, entry] of [...batch]) {
        if (!batch.has(id)) continue;  // cancelled by one before it
        call(entry, ...args);
        await quiet();
      }
    };
    const runFrameCallbacks = async () => {
      const batch = frameCallbacks;
      frameCallbacks = new Map();
      const remove = clock.removeFrame;
      clock.removeFrame = id => { batch.delete(id); frameCallbacks.delete(id); };
      await runBatch(batch, clock.now);
      clock.removeFrame = remove;
    };
    const runIdleCallbacks = async () => {
      const batch = idleCallbacks;
      idleCallbacks = new Map();
      await runBatch(batch, {didTimeout: false, timeRemaining: () => 50});
    };

    // CSS animations, transitions and the Web Animations API: the browser's own timeline stands still; each running
    // animation is put where the clock says. An anchor remembers at which time it stood where.
    const roots = () => {
      for (const root of clock.shadowRoots) if (!root.host.isConnected) clock.shadowRoots.delete(root);
      return [...[...windows].filter(window => !window.closed).map(window => window.document), ...clock.shadowRoots];
    };
    const animations = () => [...new Set(roots().flatMap(root => root.getAnimations()))]
      .filter(animation => animation.playState === 'running' && !('source' in animation.timeline));  // not scroll-driven
    const pin = () => {
      for (const animation of animations()) {
        const current = Number(animation.currentTime ?? 0);
        let anchor = anchors.get(animation);
        if (!anchor || Math.abs(anchor.set - current) > EPSILON || anchor.rate !== animation.playbackRate) {
          anchor = {time: current, at: clock.now, rate: animation.playbackRate, set: current};
          anchors.set(animation, anchor);
        }
        const time = anchor.time + (clock.now - anchor.at) * anchor.rate;
        if (time !== current) animation.currentTime = time;
        anchor.set = Number(animation.currentTime ?? time);
      }
    };
    const restartAnimations = () => {
      for (const animation of animations()) {
        animation.currentTime = 0;
        anchors.set(animation, {time: 0, at: 0, rate: animation.playbackRate, set: 0});
      }
    };

    const smilRoots = new WeakMap();
    const pinSmil = restart => {
      for (const svg of roots().flatMap(root => [...root.querySelectorAll('svg')])) {
        if (svg.ownerSVGElement || !svg.pauseAnimations) continue;
        if (restart || !smilRoots.has(svg)) smilRoots.set(svg, clock.now);
        if (!svg.animationsPaused()) svg.pauseAnimations();
        svg.setCurrentTime((clock.now - smilRoots.get(svg)) / 1000);
      }
    };

    // `enough` ends the move early: what the page begins when it is ready belongs to frame 0.
    const moveTo = async (time, seek, enough) => {
      advancing = true;
      try {
        pin();
        await runTimers(time, enough);
        if (enough?.()) return;
        clock.now = time;
        if (seek) await seek();
        pin();
        await clock.media?.update();
        await runFrameCallbacks();
        await runIdleCallbacks();
        await runTimers(time);
        pin();
        pinSmil(false);
        await clock.media?.finish();
        // Layout is what asks for fonts and pictures: now, so that they can be waited for before the frame is drawn.
        for (const window of windows) if (!window.closed) window.document.documentElement?.getBoundingClientRect();
        await quiet();
      } finally { advancing = false; }
    };

    // Zero is set: everything pending is moved back by the time that passed before the page was ready.
    clock.zero = () => {
      const passed = clock.now;
      for (const timer of timers.values()) timer.at -= passed;
      clock.now = 0;
      clock.media?.zero(passed);
      restartAnimations();
      pinSmil(true);
    };
    clock.moveTo = moveTo;
    clock.settle = async () => {
      await quiet();
      advancing = true;
      try { await runTimers(clock.now); } finally { advancing = false; }
      await quiet();
    };
    return clock;
  };

  const inherited = () => {
    try { return window.parent === window ? null : window.parent[key]?.clock ?? null; } catch { return null; }
  };
  const shared = inherited();
  const clock = shared ?? makeClock();
  clock.windows.add(window);
  // A document of another origin has a clock of its own, which the renderer must be told of.
  if (!shared && window !== window.top) window[config.announce]('');
  delete window[config.announce];

  // ---- what the page sees -----------------------------------------------------------------------------------------

  const entry = (callback, args = []) => ({
    callback: typeof callback === 'function' ? callback : () => (0, eval)(String(callback)),
    args, window, report: native.reportError,
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
  for (const [name, value] of Object.entries(api)) define(window, name, value);

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
  defineGetter(AnimationTimeline.prototype, 'currentTime', () => clock.now);
  const startTime = Object.getOwnPropertyDescriptor(Animation.prototype, 'startTime');
  defineGetter(Animation.prototype, 'startTime', function () {
    if (startTime.get.call(this) === null) return null;
    return clock.now - Number(this.currentTime ?? 0) / (this.playbackRate || 1);
  }, function (value) {
    if (value === null) startTime.set.call(this, value);
    else this.currentTime = (clock.now - Number(value)) * this.playbackRate;
  });

  defineGetter(Event.prototype, 'timeStamp', () => clock.now);
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

  const attachShadow = Element.prototype.attachShadow;
  define(Element.prototype, 'attachShadow', function (...args) {
    const root = attachShadow.apply(this, args);
    clock.shadowRoots.add(root);
    return root;
  });
  // Shadow roots that stand in the markup are there without a call.
  document.addEventListener('DOMContentLoaded', () => {
    for (const element of document.querySelectorAll('*')) if (element.shadowRoot) clock.shadowRoots.add(element.shadowRoot);
  });

  // ---- answers from outside hold the clock --------------------------------------------------------------------------

  const held = promise => {
    const release = clock.hold();
    promise.then(release, release);
    return promise;
  };
  const fetch = window.fetch.bind(window);
  define(window, 'fetch', (...args) => held(fetch(...args)));
  const endless = response => /event-stream|ndjson/.test(response.headers.get('content-type') ?? '');
  for (const name of ['arrayBuffer', 'blob', 'bytes', 'formData', 'json', 'text']) {
    const read = Response.prototype[name];
    define(Response.prototype, name, function () {
      const reading = read.call(this);
      return endless(this) ? reading : held(reading);
    });
  }
  const send = XMLHttpRequest.prototype.send;
  define(XMLHttpRequest.prototype, 'send', function (...args) {
    const release = clock.hold();
    this.addEventListener('loadend', release, {once: true});
    try { return send.apply(this, args); } catch (error) { release(); throw error; }
  });
  for (const [type, name] of [[HTMLImageElement, 'decode'], [FontFace, 'load']]) {
    const begin = type.prototype[name];
    define(type.prototype, name, function () { return held(begin.call(this)); });
  }
  const source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, 'src');
  defineGetter(HTMLImageElement.prototype, 'src', source.get, function (value) {
    source.set.call(this, value);
    if (this.complete || this.loading === 'lazy') return;
    const release = clock.hold();
    for (const name of ['load', 'error']) this.addEventListener(name, release, {once: true});
  });
  const createBitmap = window.createImageBitmap.bind(window);
  define(window, 'createImageBitmap', (...args) => held(createBitmap(...args)));

  // A seeded generator (mulberry32): the same numbers in every run.
  let state = (config.seed ^ 0x9e3779b9) >>> 0;
  const random32 = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  define(Math, 'random', () => (random32() * 0x200000 + (random32() >>> 11)) / 0x20000000000000);
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

  const asyncrender = {
    props: config.props, fps: config.fps, width: config.width, height: config.height, duration: config.duration,
    frame: 0, time: 0, seek: undefined, ready: undefined,
  };
  define(window, 'asyncrender', asyncrender);

  // ---- what the renderer calls ------------------------------------------------------------------------------------

  const frameTime = frame => frame * 1000 * config.rate[1] / config.rate[0];
  let readiness = 'unset', readyPromise;
  const watchReady = () => {
    const promise = window.asyncrender?.ready;
    if (promise === readyPromise) return;
    readyPromise = promise;
    readiness = 'pending';
    const watched = readyPromise;
    Promise.resolve(watched).then(
      () => { if (watched === readyPromise) readiness = 'done'; },
      error => { if (watched === readyPromise) readiness = 'done'; native.reportError(error); });
  };
  const inView = element => {
    const box = element.getBoundingClientRect();
    return box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
  };
  const control = {
    clock, native,
    // What the page still waits for, a phrase each; empty: it is ready, but for requests, which the renderer counts.
    waiting() {
      if (document.readyState !== 'complete') return ['the document to load'];
      watchReady();
      document.documentElement.getBoundingClientRect();  // layout is what asks for fonts
      const fonts = [...document.fonts].filter(font => font.status === 'loading').map(font => `the font ${font.family}`);
      const images = [...document.images]
        .filter(image => !image.complete && (image.loading !== 'lazy' || inView(image)))
        .map(image => `the image ${image.currentSrc || image.src}`);
      return [...fonts, ...images, ...(clock.media?.waiting() ?? []), ...(readiness === 'pending' ? ['window.asyncrender.ready'] : [])];
    },
    lead: step => clock.moveTo(frameTime(step), null, () => readiness === 'done'),
    zero() { clock.zero(); },
    settle: () => clock.settle(),
    async advance(frame) {
      const page = window.asyncrender ?? asyncrender, time = frame * config.rate[1] / config.rate[0];
      Object.assign(page, {frame, time});
      await clock.moveTo(frameTime(frame), page.seek && (() => page.seek(time, frame)));
      return clock.media?.inPicture() ?? 0;
    },
  };
  Object.defineProperty(window, key, {value: control});
}
