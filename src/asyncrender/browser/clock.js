// The page's clock. Runs in every document before the page's first script; the page then lives in virtual time, which
// moves only when the renderer says advance(frame). Documents of one origin share the clock of their top document; a
// worker, in which `window` is its global object and there is no `document`, has one that follows (workers.js).
// How the page's own functions come to go by it: surroundings.js.
(config, key) => {
  'use strict';
  const currentTimeOf = type => Object.getOwnPropertyDescriptor(window[type]?.prototype ?? {}, 'currentTime');
  const native = {
    setTimeout: window.setTimeout.bind(window),
    Date: window.Date,
    MessageChannel: window.MessageChannel,
    reportError: window.reportError.bind(window),
    requestAnimationFrame: window.requestAnimationFrame.bind(window),
    animationTime: currentTimeOf('Animation')?.get,
    setAnimationTime: currentTimeOf('Animation')?.set,
    timelineTime: currentTimeOf('AnimationTimeline')?.get,
    pauseSmil: window.SVGSVGElement?.prototype.pauseAnimations,
    smilPaused: window.SVGSVGElement?.prototype.animationsPaused,
    setSmilTime: window.SVGSVGElement?.prototype.setCurrentTime,
    fetch: window.fetch.bind(window),
    arrayBuffer: Response.prototype.arrayBuffer,
    renderAudio: window.OfflineAudioContext?.prototype.startRendering,
  };
  // Times closer than this, in ms, are the same instant: sums of rounded steps must not miss a frame.
  const EPSILON = 1e-6;
  const frameTime = frame => frame * 1000 * config.rate[1] / config.rate[0];
  // HTML, "timer initialization steps": from the sixth nested timer on, a delay is at least 4 ms.
  const NESTING_LIMIT = 5, NESTED_DELAY = 4;
  // So many tasks that a page gives itself, one out of the other, are waited for: some never cease.
  const TASKS = 100;

  // ---- the clock: one for all documents of one origin -------------------------------------------------------------

  const makeClock = () => {
    const timers = new Map(), windows = new Set(), anchors = new WeakMap();
    let frameCallbacks = new Map(), idleCallbacks = new Map();
    let nextId = 1, nesting = 0, pumping = false, advancing = false;
    const clock = {
      now: 0, windows, shadowRoots: new Set(), scrolls: new Set(), workers: new Set(), surfaces: false, orders: false,
      transitions: 0, updates: new Set(),
    };
    // What counts time by itself goes on over a new zero.
    let before = 0;
    clock.lived = () => clock.now + before;
    clock.sinceZero = lived => lived - before;
    // In so many ms, but before the frame is drawn that the page is on its way to; at once while the clock stands.
    let bound = 0;
    clock.within = delay => Math.max(clock.now, Math.min(clock.now + delay, bound));
    const knownRoots = new WeakSet();
    clock.addRoot = root => {
      if (!knownRoots.has(root)) clock.shadowRoots.add(new WeakRef(root));
      knownRoots.add(root);
    };
    // Those of the browser's own, by their hosts: the renderer finds them. Hosts without one are known, too.
    const HOSTS = 'use, input, textarea, select, progress, meter, details, marquee';
    const own = new Map();
    clock.adopt = root => { own.set(root.host, root); };
    clock.newHosts = () => {
      const hosts = roots().flatMap(root => [...root.querySelectorAll(HOSTS)]).filter(host => !own.has(host));
      for (const host of hosts) own.set(host, null);
      return hosts.length ? hosts : null;
    };
    let holds = 0;
    const waiters = [];
    const channel = new native.MessageChannel(), post = channel.port2.postMessage.bind(channel.port2, 0);
    // A task of its own: promise reactions of the callback before it have all run, and tasks that the page gave itself,
    // one out of the other, as React does.
    const turns = [];
    channel.port1.onmessage = () => turns.shift()();
    const task = () => new Promise(resolve => { turns.push(resolve); post(); });
    clock.tasks = 0;
    const turn = async () => {
      for (let left = TASKS, known = -1; known !== clock.tasks && left > 0; left--) {
        known = clock.tasks;
        await task();
      }
    };
    clock.turn = turn;
    clock.setRealTimeout = native.setTimeout;
    // While the page waits for an answer from outside, its time stands: answers come at the same time on every machine.
    clock.hold = () => {
      let held = true;
      holds++;
      return () => {
        if (!held) return;
        held = false;
        if (--holds === 0) for (const released of waiters.splice(0)) released(true);
      };
    };
    clock.held = () => holds;
    // Images that hold it, and how they let go. Those that are not to be loaded any more will never say so.
    clock.images = new Map();
    const quiet = async () => {
      await turn();
      for (const [image, release] of clock.images) if (!image.hasAttribute('src') || image.loading === 'lazy') release();
      while (holds > 0) {
        const given = await new Promise(resolve => {
          waiters.push(resolve);
          native.setTimeout(() => resolve(false), config.requestSeconds * 1000);
        });
        await turn();
        if (!given) return;  // the renderer will say which request has no end
      }
    };
    // A frame that went elsewhere is not closed, and its window is the next document's.
    clock.alive = entry => {
      try { return !entry.window.closed && entry.window.document === entry.document; } catch { return false; }
    };
    const call = (entry, ...args) => {
      if (!clock.alive(entry)) return;
      try { Reflect.apply(entry.callback, entry.window, args); } catch (error) { entry.report(error); }
    };

    // What the drawing of a frame has the page do is seen in the next, however often the frame is drawn for its picture.
    const afterwards = [];
    clock.callAfterwards = entry => { afterwards.push(entry); };
    const drawingIsOver = async () => {
      for (const entry of afterwards.splice(0)) {
        call(entry, ...entry.args);
        await quiet();
      }
    };

    // Those up to `horizon` are near, in the order of all: not every timer is looked at for each one that is due.
    let near = new Map(), horizon = -Infinity;
    const keep = (id, timer) => {
      timers.set(id, timer);
      if (timer.at <= horizon) near.set(id, timer);
    };
    const drop = id => {
      timers.delete(id);
      near.delete(id);
    };
    const shiftTimers = by => {
      for (const timer of timers.values()) timer.at += by;
      horizon = -Infinity;
    };
    const lookAhead = until => {
      horizon = until;
      near = new Map();
      timers.forEach((timer, id) => { if (timer.at <= horizon) near.set(id, timer); });
    };
    clock.addTimer = (entry, delay, every) => {
      delay = Math.max(0, Math.trunc(Number(delay)) || 0);
      if (delay > 0x7fffffff) delay = 0;
      if (nesting >= NESTING_LIMIT) delay = Math.max(delay, NESTED_DELAY);
      const id = nextId++;
      keep(id, {...entry, at: clock.now + delay, every: every ? Math.max(delay, 1) : 0, nesting: nesting + 1});
      if (timers.get(id).at <= clock.now) pumpSoon();
      return id;
    };
    // A task of our own at an exact time, which stands until `before` is over.
    clock.addTask = (task, at) => {
      const id = nextId++;
      keep(id, {...task, at, every: 0, nesting: 0});
      if (at <= clock.now) pumpSoon();
      return id;
    };
    clock.removeTimer = id => { drop(id); };
    clock.addFrame = entry => { const id = nextId++; frameCallbacks.set(id, entry); return id; };
    clock.removeFrame = id => { frameCallbacks.delete(id); };
    clock.addIdle = entry => { const id = nextId++; idleCallbacks.set(id, entry); return id; };
    clock.removeIdle = id => { idleCallbacks.delete(id); };

    const firstDue = until => {
      if (until + EPSILON > horizon) lookAhead(until + EPSILON);
      let found = null, at = Infinity;
      near.forEach((timer, id) => {
        if (timer.at <= until + EPSILON && timer.at < at - EPSILON) [found, at] = [id, timer.at];
      });
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
          drop(id);
          keep(id, timer);
        } else drop(id);
        await clock.reachAudio?.();
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
    // In a browser it is never 0, and libraries take that for "not begun".
    const frameStamp = () => clock.now || Number.MIN_VALUE;
    // HTML, "update the rendering": the callbacks of a document, then those of each of its frames.
    const family = one => [one, ...Array.from({length: one.length}, (_, index) => family(one[index])).flat()];
    const byDocument = batch => {
      if (windows.size < 2) return batch;
      const ranks = new Map(family(window).map((one, rank) => [one, rank])), rank = entry => ranks.get(entry.window) ?? 0;
      return new Map([...batch].sort(([, one], [, other]) => rank(one) - rank(other)));
    };
    const runFrameCallbacks = async () => {
      const batch = byDocument(frameCallbacks);
      frameCallbacks = new Map();
      const remove = clock.removeFrame;
      clock.removeFrame = id => { batch.delete(id); frameCallbacks.delete(id); };
      await runBatch(batch, frameStamp());
      clock.removeFrame = remove;
    };
    const runIdleCallbacks = async () => {
      const batch = idleCallbacks;
      idleCallbacks = new Map();
      await runBatch(batch, {didTimeout: false, timeRemaining: () => 50});
    };

    // CSS animations, transitions and the Web Animations API: the browser's own timeline stands still; each running
    // animation is put where the clock says. An anchor remembers at which time it stood where; one that did not run at
    // the last look is anchored anew.
    const roots = () => {
      for (const window of windows) if (window.closed) windows.delete(window);
      const shown = [...windows].map(window => window.document);
      for (const held of clock.shadowRoots) {
        const root = held.deref();
        if (!root) clock.shadowRoots.delete(held);
        else if (root.host.isConnected) shown.push(root);
      }
      for (const [host, root] of own) {
        if (!host.isConnected || !host.ownerDocument.defaultView) own.delete(host);
        else if (root) shown.push(root);
      }
      return shown;
    };
    const byTime = timeline => timeline && !('source' in timeline);  // nor by scrolling, nor not at all
    const runs = animation => animation.playState === 'running' && byTime(animation.timeline);
    // `getAnimations` leaves out some that run: those that go backwards from their end, those that wait out their
    // `endDelay`, and those of elements that stand in no document.
    clock.begun = new Set();
    // Some may go backwards: one that a frame's scripts begin is put where it is not over before the frame is drawn.
    clock.backwards = false;
    // Where the page has put them.
    clock.sought = new WeakMap();
    const animations = () => {
      for (const animation of clock.begun) if (animation.playState !== 'running') clock.begun.delete(animation);
      return [...new Set([...roots().flatMap(root => root.getAnimations()), ...clock.begun])].filter(runs);
    };
    let looks = 0;
    const putAt = (animation, time) => native.setAnimationTime.call(animation, time);
    // Where it begins to go backwards an animation would be over: its timeline stands.
    const notOver = (animation, time) => {
      const end = Number(animation.effect?.getComputedTiming().endTime);
      return time >= end ? end - EPSILON / 2 : time;
    };
    // What changes in steps must not be a frame late because 133.33 less 33.33 is a little less than 100.
    const since = at => {
      const passed = clock.now - at, whole = frameTime(Math.round(passed / frameTime(1)));
      return Math.abs(passed - whole) < EPSILON ? whole : passed;
    };
    // Chromium divides, and what comes out a trifle too small is a step, or a round, too few, and so a frame late: what has to
    // be reached is passed by a trifle. Where a round is gone through backwards, it lies behind, but for the round's beginning.
    const TRIFLE = 2 ** -50;
    const reaching = ({delay, duration, direction, iterationStart, endTime}, time) => {
      if (time <= 0) return time;  // what goes backwards is over
      const rounds = (time - delay) / 1000 / (duration / 1000) + iterationStart, whole = Math.floor(rounds + EPSILON);
      const trifle = (time + Math.abs(delay)) * TRIFLE;
      const turns = direction.startsWith('alternate') && Math.abs(whole % 2) === 1;
      if (direction.endsWith('reverse') === turns || time >= endTime || rounds < whole) return time + trifle;
      return rounds - whole > EPSILON ? time - trifle : time;
    };
    const timeOf = animation => Number(native.animationTime.call(animation) ?? 0);
    // Without the trifle.
    clock.timeOf = animation => {
      const time = native.animationTime.call(animation), found = anchors.get(animation);
      return time !== null && found?.set === time ? found.due : time;
    };
    const anchor = (animation, set, at = clock.now) => {
      const time = Number(clock.timeOf(animation) ?? 0), timing = animation.effect?.getComputedTiming();
      const found = {time, at, rate: animation.playbackRate, set, due: time, look: looks, timing};
      anchors.set(animation, found);
      return found;
    };
    const goesOn = (found, animation, time) =>
      Math.abs(found.set - time) <= EPSILON && found.rate === animation.playbackRate;
    const carryOn = (found, animation, time) => {
      const passed = found.time + since(found.at) * found.rate, due = found.rate < 0 ? notOver(animation, passed) : passed;
      const reached = found.timing ? reaching(found.timing, due) : due;
      found.due = due;
      found.set = time;
      if (reached === time) return;
      putAt(animation, reached);
      found.set = Number(native.animationTime.call(animation) ?? due);
    };
    // A look costs: Chromium sorts all animations by where their elements are in the document. What is new began `at`; what
    // begins after the frame's look stands where it is until the next one.
    const pin = (at = clock.now) => {
      looks++;
      for (const animation of animations()) {
        const time = timeOf(animation);
        let found = anchors.get(animation);
        if (found?.look !== looks - 1 || !goesOn(found, animation, time)) found = anchor(animation, time, at);
        found.look = looks;
        carryOn(found, animation, time);
      }
    };
    // Between two looks: what the page asks an animation, or has it do, is about now.
    clock.catchUp = animation => {
      const found = anchors.get(animation), time = timeOf(animation);
      if (found?.look === looks && runs(animation) && goesOn(found, animation, time)) carryOn(found, animation, time);
    };
    clock.anchor = animation => { if (runs(animation)) anchor(animation, timeOf(animation)); };
    const restartAnimations = () => {
      for (const animation of animations()) {
        const time = clock.sought.get(animation) ?? 0;
        putAt(animation, time);
        anchor(animation, time);
      }
    };

    // SMIL: each <svg> is held, and put where the clock says. An anchor remembers at which time it stood where.
    const smilAnchors = new WeakMap();
    const smilAnchor = svg => {
      if (!smilAnchors.has(svg)) smilAnchors.set(svg, {time: 0, at: clock.now, paused: false});
      return smilAnchors.get(svg);
    };
    clock.smilPaused = svg => smilAnchor(svg).paused;
    clock.smilTime = svg => {
      const {time, at, paused} = smilAnchor(svg);
      return paused ? time : time + clock.now - at;
    };
    clock.anchorSmil = (svg, change) =>
      Object.assign(smilAnchor(svg), {time: clock.smilTime(svg), at: clock.now, ...change});
    clock.putSmil = svg => {
      if (!native.smilPaused.call(svg)) native.pauseSmil.call(svg);
      // Chromium makes a float of it, then cuts off what is less than a microsecond: never below, or what begins is late.
      native.setSmilTime.call(svg, clock.smilTime(svg) / 1000 * (1 + 2 ** -23));
    };
    const pinSmil = restart => {
      for (const svg of roots().flatMap(root => [...root.querySelectorAll('svg')])) {
        if (!svg.pauseAnimations) continue;
        if (restart) smilAnchor(svg).at = clock.now;
        clock.putSmil(svg);
      }
    };

    // What `seek` waits for happens meanwhile: timers and events that are due, and animation frames it has asked for;
    // the page's own loop runs once a frame as ever.
    const carryOut = async (seek, time) => {
      const first = nextId;
      let over = false;
      (async () => seek())().catch(native.reportError).finally(() => { over = true; });
      for (await quiet(); !over; await quiet()) {
        const asked = [...frameCallbacks].filter(([id]) => id >= first);
        if (firstDue(time) !== null) await runTimers(time);
        else if (asked.length) {
          for (const [id] of asked) frameCallbacks.delete(id);
          await runBatch(new Map(asked), frameStamp());
        } else await new Promise(resolve => { native.setTimeout(resolve, 0); });
      }
    };

    // `enough` ends the move early: what the page begins when it is ready belongs to frame 0.
    const moveTo = async (time, seek, enough) => {
      advancing = true;
      bound = enough ? 0 : time;
      try {
        await drawingIsOver();
        // What the page does on the way may begin animations, which are no older than that.
        const before = clock.now, acts = seek || firstDue(time) !== null;
        if (acts) pin();
        await runTimers(time, enough);
        if (enough?.()) return;
        clock.now = time;
        if (seek) await carryOut(seek, time);
        pin(acts ? time : before);
        for (const scroll of clock.scrolls) if (clock.alive(scroll)) scroll.step(); else clock.scrolls.delete(scroll);
        await clock.media?.update();
        await clock.reachAudio?.();
        for (const worker of clock.workers) worker.move(time);
        if (clock.workers.size) await quiet();
        await runFrameCallbacks();
        await runTimers(time);
        await runIdleCallbacks();
        await runTimers(time);
        if (clock.backwards) pin();
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
      shiftTimers(-passed);
      clock.now = bound = 0;
      before += passed;
      clock.media?.zero(passed);
      for (const worker of clock.workers) worker.zero();
      restartAnimations();
      pinSmil(true);
    };
    // A document of another origin that comes later begins at the time of its page.
    clock.join = time => {
      const late = time - clock.now;
      shiftTimers(late);
      clock.now = time;
      before -= late;
      for (const worker of clock.workers) worker.join(late);
    };
    clock.moveTo = moveTo;
    clock.settle = async () => {
      await quiet();
      advancing = true;
      try {
        await drawingIsOver();
        await runTimers(clock.now);
      } finally { advancing = false; }
      await quiet();
    };
    return clock;
  };

  const inherited = () => {
    try { return window.parent === window ? null : window.parent[key]?.clock ?? null; } catch { return null; }
  };
  const shared = inherited();
  const clock = shared ?? makeClock();
  if (document) clock.windows.add(window);
  // A document of another origin has a clock of its own, which the renderer must be told of, unless nothing runs there.
  const announce = window[config.announce];
  if (document && !shared && window !== window.top) clock.turn().then(() => announce(''));
  delete window[config.announce];

  // ---- what the page knows of its film ------------------------------------------------------------------------------

  const asyncrender = {
    props: config.props, fps: config.fps, width: config.width, height: config.height, duration: config.duration,
    frame: 0, time: 0, seek: undefined, ready: undefined,
  };
  Object.defineProperty(window, 'asyncrender', {value: asyncrender, writable: true, configurable: true, enumerable: true});

  // ---- what the renderer calls ------------------------------------------------------------------------------------

  let readiness = 'unset', readyPromise, stirring = null, leading = 0, moved = -1, ahead = null;
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
  // A frame is out of the page's hands once the browser's own animation frame is over, which bears the time of the
  // compositor's tick: what the page does then is none of it. Ticks are in ms since the page began, and for the renderer
  // since the machine did: `offset` between. An animation frame may also come of an old tick, so it is the time that counts.
  const drawing = {tick: NaN, offset: NaN, rounds: 0, held: false, passed() {}, proceed() {}};
  const ROUNDS = 3;  // animation frames that nobody has asked about, before no more are wanted: they are work
  const timeline = document && new DocumentTimeline();  // the document's own stands still
  // Two turns: what the animation frame had done after it, such as the calls of IntersectionObservers, comes before.
  const frameOver = () => clock.turn().then(clock.turn);
  const nextTick = () => native.requestAnimationFrame(() => {
    if (--drawing.rounds > 0) nextTick();
    const tick = Number(native.timelineTime.call(timeline));
    frameOver().then(() => { drawing.tick = tick; drawing.passed(); });
  });
  const watchTicks = () => {
    const watched = drawing.rounds > 0;
    drawing.rounds = ROUNDS;
    if (!watched) nextTick();
  };
  // Until the tick is over. What has surfaces of its own, which wait for no frame, waits until `proceed`, and so does a view
  // transition, which begins when the compositor has its pictures.
  const drawn = ticks => new Promise(resolve => {
    const over = () => drawing.tick + drawing.offset > ticks - 1;
    drawing.held = true;
    drawing.proceed = () => { drawing.held = false; resolve(); };
    const waits = () => clock.surfaces || clock.transitions || clock.media?.states.length;
    drawing.passed = () => { if (!waits() && over()) drawing.proceed(); };
    watchTicks();
    drawing.passed();
  });
  const control = {
    clock, native,
    // Puts something of ours in place of the browser's own.
    define(object, name, value) {
      Object.defineProperty(object, name, {value, writable: true, configurable: true, enumerable: true});
    },
    defineGetter(object, name, get, set) {
      Object.defineProperty(object, name, {get, set, configurable: true, enumerable: true});
    },
    // `make(construct, args, newTarget)` makes what the page asks of a constructor.
    defineConstructor(name, make) {
      const Native = window[name];
      const construct = (target, args, newTarget) => make(given => Reflect.construct(target, given, newTarget), args, newTarget);
      control.define(window, name, new Proxy(Native, {construct}));
      control.define(Native.prototype, 'constructor', window[name]);
    },
    // What the page still waits for, a phrase each; empty: it is ready, but for requests, which the renderer counts.
    waiting() {
      if (document.readyState !== 'complete') return ['the document to load'];
      watchReady();
      document.documentElement.getBoundingClientRect();  // layout is what asks for fonts
      const fonts = [...document.fonts].filter(font => font.status === 'loading').map(font => `the font ${font.family}`);
      const images = [...document.images]
        .filter(image => !image.complete && (image.loading !== 'lazy' || inView(image)))
        .map(image => `the image ${image.currentSrc || image.src}`);
      const media = clock.media?.waiting() ?? [];
      return [...fonts, ...images, ...media, ...(readiness === 'pending' ? ['window.asyncrender.ready'] : [])];
    },
    // A frame further towards `ready`, which may wait for a timer.
    lead: () => clock.moveTo(frameTime(++leading), null, () => readiness === 'done'),
    zero() { clock.zero(); },
    join: frame => clock.join(frameTime(frame)),
    settle: () => clock.settle(),
    // Has everything drawn anew, as it is: something is changed that can be seen, then it is changed back.
    stir(on) {
      stirring?.cancel();
      stirring = on ? document.documentElement.animate([{opacity: 0.99}, {opacity: 0.99}], {duration: 1e6}) : null;
    },
    // An order from outside overtakes what the drawing of the last frame left to be done: that comes first.
    advance: (frame, ...wish) =>
      clock.turn().then(() => ahead?.frame === frame ? ahead.heed : control.moveOn(frame, ...wish)),
    // Before the next frame is asked for: what sounds until then is known now. At the film's end there is none, and some
    // pages are not `free` to move.
    async goAhead(free) {
      const next = moved + 1, time = frameTime(next), over = time > config.duration * 1000 - EPSILON;
      if (over || !free) await clock.reachAudio(time - clock.now);
      else ahead = {frame: next, heed: await control.moveOn(next)};
    },
    // What its drawing has to heed (`Page.heed` in page.py), or where its picture lies if that is wanted and it could be taken
    // here (direct.js).
    async moveOn(frame, wanted, known) {
      moved = frame;
      ahead = null;
      const page = window.asyncrender ?? asyncrender, time = frame * config.rate[1] / config.rate[0];
      Object.assign(page, {frame, time});
      await clock.moveTo(frameTime(frame), page.seek && (() => page.seek(time, frame)));
      const heed = Math.max(clock.media?.inPicture() ?? 0, clock.surfaces ? 2 : clock.orders || clock.transitions ? 1 : 0);
      return wanted && !heed && await control.picture?.(known) || heed;
    },
    // Whether nothing can be drawn because a view transition has the page changed, which takes it longer than a frame.
    async updating() {
      for (const update of [...clock.updates]) await update.called;
      await clock.turn();
      return clock.updates.size > 0;
    },
    // The frame of these ticks is drawn. True once it is known which tick of ours is which of the page's.
    async drawnAt(ticks) {
      watchTicks();
      await frameOver();
      const offset = ticks - drawing.tick, sure = Math.abs(offset - drawing.offset) < 1;
      drawing.offset = offset;
      return sure;
    },
    // Advance as soon as the frame of these ticks is out of the page's hands, or at `proceed`: it is drawn, surely.
    async follow(frame, ticks, ...wish) {
      await drawn(ticks);
      return control.moveOn(frame, ...wish);
    },
    // Whether it was waited for.
    proceed() {
      clock.turn().then(drawing.proceed);
      return drawing.held;
    },
  };
  Object.defineProperty(window, key, {value: control});
}
