// Media elements on the page's clock. Runs in every document after clock.js: <video> and <audio> play in virtual time,
// and a video shows the frame that the renderer decoded for exactly that time. Documents of one origin share one list.
//
// Attributes of ours, in seconds, for elements that no script controls: data-asyncrender-offset (composition time at
// which the element starts, with or without `autoplay`), data-asyncrender-seek (media time at which it starts). For the
// sound of all: data-asyncrender-fade-in, data-asyncrender-fade-out (seconds), data-asyncrender-volume (linear gain).
(config, key) => {
  'use strict';
  const control = window[key], {clock, native, define, defineGetter} = control;
  if (!window.HTMLMediaElement || !clock) return;

  // Closer than this, in s, is the same position: positions are sums of rounded times.
  const EPSILON = 1e-6;
  // So long, in ms, a frame is waited for before it is handed to the element again: its player may have been new.
  const SHOWN_MS = 250, SHOWN_ATTEMPTS = 40;
  // So long, in ms, a load takes to begin, as in a browser: players count on timers of 1 ms to come before.
  const LOAD_MS = 2;
  const NO_FILM = {display_width: 300, display_height: 150};
  const NOTHING = 0, METADATA = 1, ENOUGH = 4;
  const EVENTS = ['abort', 'canplay', 'canplaythrough', 'durationchange', 'emptied', 'ended', 'error', 'loadeddata',
    'loadedmetadata', 'loadstart', 'pause', 'play', 'playing', 'progress', 'ratechange', 'resize', 'seeked', 'seeking',
    'stalled', 'suspend', 'timeupdate', 'waiting'];
  const Media = HTMLMediaElement.prototype, Video = HTMLVideoElement.prototype;
  const describe = (object, name) => Object.getOwnPropertyDescriptor(object, name);
  const ORIGINALS = ['src', 'srcObject', 'volume', 'muted', 'loop', 'autoplay', 'paused', 'preservesPitch'];
  const original = Object.fromEntries(ORIGINALS.map(name => [name, describe(Media, name)]));
  const nativePlay = Media.play, nativePause = Media.pause, nativeLoad = Media.load;
  const listen = EventTarget.prototype.addEventListener;
  const NativeVideoFrame = window.VideoFrame, Generator = window.MediaStreamTrackGenerator;

  // ---- one list for all documents of one origin ---------------------------------------------------------------------

  const makeMedia = () => {
    const states = [], observed = new Set(), warnings = [];
    const media = {states, observed, warnings, serial: 0, names: new Map()};
    const settle = async () => {
      for (const one of observed) if (clock.alive(one)) one.look(); else observed.delete(one);
      for (const {segments} of states.filter(state => !clock.alive(state)))
        if (segments.at(-1)?.end === null) segments.at(-1).end = clock.now / 1000;
    };
    const present = () => states.filter(state => clock.alive(state) && state.load);
    media.update = async () => {
      await settle();
      for (const state of present()) state.tick();
      await Promise.all(present().map(state => state.show()));
      for (const state of present()) state.callFrameCallbacks();
    };
    // After the frame's last script: what it moved is shown too, and what comes next is fetched meanwhile.
    media.finish = async () => {
      await settle();
      await Promise.all(present().map(state => state.show()));
      for (const state of present()) state.fetchAhead();
    };
    media.zero = passed => { for (const state of states) state.zero(passed); };
    // 0: no film can be seen; 1: one can; 2: one has just come into view, and the compositor may need a while to have it.
    media.inPicture = () => Math.max(0, ...present().map(state => state.inPicture()));
    media.waiting = () => {
      settle();
      return present().filter(state => state.waited()).map(state => `the ${state.kind} ${state.label()}`);
    };
    // What an element sounds like now, and since when, for audiosources.js.
    media.playing = element => states.find(state => state.element === element)?.playing();
    // Since `lived` an element is heard where it was connected to.
    media.take = (element, lived) => {
      states.find(state => state.element === element)?.take(clock.sinceZero(lived) / 1000);
    };
    media.record = (name, at, seconds, bytes) => ask('upload', {source: name, at, seconds}, base64(new Uint8Array(bytes)));
    media.sounds = () => [...states.flatMap(state => state.sounds()), ...clock.recorded()];
    return media;
  };
  const media = clock.media ??= makeMedia();
  const warn = text => {
    if (media.warnings.includes(text)) return;
    media.warnings.push(text);
    ask('warning', {text}).catch(() => {});
  };

  // ---- the renderer's side: films and their frames ------------------------------------------------------------------

  const ask = async (path, parameters, body) => {
    const address = `${config.endpoint}${path}?${new URLSearchParams(parameters)}`;
    const options = body ? {method: 'POST', body} : {};
    const response = await native.fetch(address, {...options, credentials: 'omit', referrerPolicy: 'no-referrer'});
    return native.arrayBuffer.call(response);
  };
  const askJson = async (...args) => JSON.parse(new TextDecoder().decode(await ask(...args)));
  // A data: URL may hold megabytes: outside it goes by a number.
  const nameOf = source => {
    if (!source.startsWith('data:')) return source;
    if (!media.names.has(source)) media.names.set(source, `data:,${media.names.size}`);
    return media.names.get(source);
  };
  // DevTools shows bodies as text, and breaks on bytes that are none.
  const base64 = bytes => {
    let text = '';
    for (let at = 0; at < bytes.length; at += 0x2000) text += String.fromCharCode(...bytes.subarray(at, at + 0x2000));
    return btoa(text);
  };
  const openFilm = async (element, source, bytes) => {
    if (bytes) {
      const data = await bytes;
      for (let at = 0; at < Math.max(1, data.byteLength); at += config.pieceBytes)
        await ask('upload', {source: nameOf(source), at},
          base64(new Uint8Array(data.slice(at, at + config.pieceBytes))));
    }
    return askJson('film', {element, source: nameOf(source)});
  };

  // ---- one element --------------------------------------------------------------------------------------------------

  const known = new WeakMap();
  const given = (element, name) => element.hasAttribute(`data-asyncrender-${name}`);
  const seconds = (element, name) => Math.max(0, Number(element.getAttribute(`data-asyncrender-${name}`)) || 0);

  const makeState = element => {
    const kind = element instanceof HTMLVideoElement ? 'video' : 'audio';
    const state = {
      element, kind, window, document, id: media.states.length, source: '', film: null, load: null, broken: null,
      readyState: NOTHING, paused: true, ended: false, seeking: 0, rate: 1, defaultRate: 1, at: 0, position: 0,
      controlled: false, started: false, connected: false, posterShown: true, foreign: false, taken: false, surface: false,
      shown: -1, presented: 0, callbacks: new Map(), nextCallback: 1, calledFor: -1, segments: [], end: 0,
    };
    const hostId = `${window.origin} ${state.id}`;
    let generator = null, writer = null, ahead = null, promises = [];

    // -- time
    const advanced = at => state.paused ? state.position
      : Math.round((state.position + Math.max(0, at - state.at) / 1000 * state.rate) * 1e9) / 1e9;
    // Into the round that a loop is in. What a film's first time stamp is later than cannot be reached.
    const wrapped = position => {
      const {start, duration} = state.film;
      if (position < duration || !element.loop || duration <= start) return position;
      return start + (position - duration) % (duration - start);
    };
    const bounded = position => {
      const {start, duration} = state.film ?? {start: 0, duration: Infinity};
      return Math.min(duration, Math.max(start, state.film ? wrapped(position) : position));
    };
    state.current = () => bounded(advanced(clock.now));
    const anchor = (position = state.current()) => {
      state.position = position;
      state.at = clock.now;
    };
    const changed = () => { watchEnd(); hear(); };
    const watchEnd = () => {
      if (state.end) clock.removeTimer(state.end);
      state.end = 0;
      if (state.paused || !state.film || !(state.rate > 0) || element.loop && last() === state.film.duration) return;
      const left = (last() - state.position) / state.rate;
      const at = Math.max(clock.now, Math.round((state.at + left * 1000) * 1e6) / 1e6);
      state.end = clock.addTask({callback: finish, args: [], window, document, report: native.reportError}, at);
    };
    const finish = () => {
      state.end = 0;
      if (state.paused) return;
      anchor(last());
      state.paused = true;
      state.ended = state.position >= state.film.duration;
      hear();
      for (const name of ['timeupdate', 'pause', ...(state.ended ? ['ended'] : [])]) fire(name);
    };
    // Where playing stops: a fragment's end, unless it is already past.
    const last = () => {
      const {stop} = fragment();
      return stop > state.position ? Math.min(stop, state.film.duration) : state.film.duration;
    };

    // -- events, in virtual time and in a fixed order
    const fire = name => element.dispatchEvent(new Event(name));
    const queue = (callback, before, at = clock.now) =>
      clock.addTask({callback, args: [], window, document, report: native.reportError, before}, at);
    const queueEvents = (...names) => { for (const name of names) queue(() => fire(name)); };
    for (const name of EVENTS)
      listen.call(element, name, event => {
        if (event.isTrusted && !state.foreign) event.stopImmediatePropagation();
      }, true);

    // -- sound: the segments that were heard, or are still
    const gain = () => element.muted ? 0
      : element.volume * (given(element, 'volume') ? seconds(element, 'volume') : 1);
    const hear = () => {
      const now = clock.now / 1000, last = state.segments.at(-1), open = last && last.end === null ? last : null;
      const from = Math.max(now, state.at / 1000);
      const sounding = !state.paused && state.rate > 0 && !state.broken && state.source && !state.foreign && !state.taken;
      const position = bounded(advanced(Math.max(clock.now, state.at)));
      if (open) {
        const reached = bounded(open.position + (from - open.start) * open.rate);
        const same = sounding && open.source === nameOf(state.source) && open.rate === state.rate
          && open.loop === element.loop && open.pitch === element.preservesPitch
          && Math.abs(reached - position) < EPSILON;
        if (same) return;
        open.end = now;
        if (open.end <= open.start) state.segments.pop();
      }
      if (!sounding) return;
      state.segments.push({
        element: state.id, source: nameOf(state.source), kind, start: from, end: null, position, rate: state.rate,
        loop: element.loop, pitch: element.preservesPitch, gains: [[from, gain()]],
        fade_in: seconds(element, 'fade-in'), fade_out: seconds(element, 'fade-out'),
      });
    };
    state.volumeChanged = () => {
      const open = state.segments.at(-1);
      if (!open || open.end !== null) return;
      const now = Math.max(open.start, clock.now / 1000), last = open.gains.at(-1);
      if (last[0] === now) last[1] = gain();
      else if (last[1] !== gain()) open.gains.push([now, gain()]);
    };
    state.sounds = () => state.segments;
    state.take = since => {
      if (state.taken) return;
      state.taken = true;
      state.segments = state.segments.filter(({start}) => start < since);
      for (const segment of state.segments) segment.end = Math.min(segment.end ?? Infinity, Math.max(0, since));
    };
    state.playing = () => {
      const {at, position, rate, source} = state, {loop} = element;
      const sounding = !state.paused && rate > 0 && state.film && !state.foreign;
      return {at, gain: gain(), ...(sounding && {source, position, rate, loop})};
    };

    // -- the source
    const ownSource = () => element.getAttribute('src');
    const candidates = () => {
      if (ownSource() !== null) return [{text: ownSource(), known: true, child: null}];
      return [...element.querySelectorAll('source[src]')]
        .filter(source => !source.media || window.matchMedia(source.media).matches)
        .map(child => ({text: child.getAttribute('src'), known: plays(child), child}));
    };
    // Of what comes as a type that the browser does not play, another source may be the one that is meant for it, such
    // as the transparent one beside HEVC; but ffmpeg knows more than the browser.
    const plays = ({type}) => !type || element.canPlayType(type) !== '';
    const resolved = text => { try { return new URL(text, element.baseURI).href; } catch { return text; } };
    const unreadable = () => { throw 'what blob: names cannot be read, as a MediaSource cannot'; };
    const grab = source => /^(blob|data):/.test(source)
      ? native.fetch(source).then(response => native.arrayBuffer.call(response), unreadable) : null;
    const byItself = () => !state.controlled && (element.autoplay || given(element, 'offset'));
    const lazy = () => element.getAttribute('preload')?.toLowerCase() === 'none' && state.paused && !byItself();
    const offset = () => seconds(element, 'offset');
    // "#t=5", "#t=5,9.5", "#t=1:05": Media Fragments URI 1.0, section 4.2.1.
    const fragment = () => {
      const [, from, to] = /[#&]t=(?:npt:)?([\d:.]*)(?:,([\d:.]+))?(?:&|$)/.exec(state.source) ?? [];
      const number = text => (text ?? '').split(':').reduce((sum, part) => 60 * sum + Number(part), 0);
      const start = number(from), stop = number(to);
      return {start, stop: stop > start ? stop : Infinity};
    };
    const beginning = () => bounded(seconds(element, 'seek') || fragment().start);
    state.label = () => (state.source || candidates()[0]?.text || '').slice(0, config.labelChars);

    // When it was asked for, and when it begins; the clock may get a new zero meanwhile.
    const takes = load => {
      const asked = clock.lived(), delay = clock.within(LOAD_MS) - clock.now;
      load.from = () => clock.sinceZero(asked);
      load.due = () => Math.max(clock.now, load.from() + delay);
    };
    // HTML, "media element load algorithm": begins at once, ends in virtual time at which it began. What changes in the
    // element's sources afterwards is another load only if it gets a `src`, or by load().
    state.open = () => {
      const own = ownSource(), {load: before} = state;
      if (before && !before.again && (own === null ? before.sources.length : own === before.own)) {
        if (own === null && before.own === null && !state.film) addSources(before);
        if (!lazy()) before.begin?.();
        return;
      }
      if (!candidates().length && !before) return;
      if (before) reset();
      else state.at = clock.now;
      const load = state.load = {own, sources: [], failed: [], done: false, again: false};
      takes(load);
      addSources(load);
      if (!load.sources.length) {
        load.done = true;
        queue(() => {}, async () => { if (state.load === load) await showNothing(); });
        return;
      }
      state.source = load.sources[0].source;
      attach();
      queue(() => { if (state.load === load) fire('loadstart'); }, null, load.due());
      const untried = () => load.sources.find(one => !one.tried && one.known) ?? load.sources.find(one => !one.tried);
      const opening = () => load.opening ??= (async () => {
        let said = 'it has no source';
        for (let one; (one = untried());) {
          const {source, bytes, child} = one;
          one.tried = true;
          const film = await openFilm(hostId, source, bytes).catch(error => ({error: String(error)}));
          if (state.load !== load) return;
          if (!film.error) {
            Object.assign(state, {film, source});
            if (film.hdr && kind === 'video') {
              warn(`the video ${state.label()} is HDR (${film.hdr}), and its colours come out wrong; make it BT.709`);
            }
            if (!film.width) await showNothing();
            return;
          }
          said = film.error;
          if (child) load.failed.push(child);
        }
        await broke(said);
      })();
      if (!lazy()) opening();
      load.begin = () => {
        if (load.begun) return;
        load.begun = true;
        let early = false;
        takes(load);
        queue(() => {
          for (const child of load.failed.splice(0)) child.dispatchEvent(new Event('error'));
          if (state.load !== load || state.broken) return;
          state.readyState = METADATA;
          const from = load.from();
          state.position = bounded(advanced(from) || fragment().start);
          early = state.position > state.film.start && (state.soughtEarly || fragment().start > 0);
          state.at = Math.max(state.at, from);
          state.ended = state.paused && !element.loop && state.position >= state.film.duration;
          for (const name of ['durationchange', 'loadedmetadata']) fire(name);
          if (!early) return;
          state.seeking++;
          fire('seeking');
        }, opening, load.due());
        queue(() => {
          if (early) state.seeking--;
          if (state.load !== load || state.broken) { load.done = true; return; }
          state.readyState = ENOUGH;
          load.done = true;
          if (early && !state.seeking) for (const name of ['timeupdate', 'seeked']) fire(name);
          for (const name of ['loadeddata', 'canplay', 'canplaythrough']) fire(name);
          startByItself();
          queue(() => { if (!state.paused) fire('playing'); settlePromises(); });
          changed();
        }, () => state.show(), load.due());
      };
      if (!lazy()) load.begin();
    };
    const addSources = load => {
      const there = new Set(load.sources.map(({child}) => child));
      for (const {text, ...one} of candidates().filter(({child}) => !there.has(child))) {
        const source = resolved(text), bytes = grab(source);
        bytes?.catch(() => {});
        load.sources.push({...one, source, bytes, tried: false});
        if (!state.broken) continue;
        state.broken = null;
        Object.assign(load, {opening: null, begun: false, done: false});
      }
    };
    const reset = () => {
      if (state.end) clock.removeTimer(state.end);
      if (!state.paused) { state.paused = true; hear(); }
      Object.assign(state, {
        film: null, broken: null, readyState: NOTHING, ended: false, shown: -1, calledFor: -1, position: 0, end: 0,
        rate: state.defaultRate, started: false, controlled: false, posterShown: true, source: '',
        soughtEarly: false,
      });
      ahead = null;
      queueEvents('emptied');
    };
    const broke = async said => {
      const {load} = state;
      state.broken = said;
      hear();
      warn(`the ${kind} ${state.label()} cannot be shown: ${said}`);
      await showNothing();
      load.done = true;
      queue(() => {
        if (load.own !== null) fire('error');
        settlePromises();
      }, null, load.due());
    };
    // A video in view that never had a picture, or lost its stream, keeps the compositor from drawing anything at all: so
    // it gets one that shows nothing, as large as a video without any (HTML, "300 by 150 CSS pixels"). The stream stays:
    // at its end Chromium would show black.
    const showNothing = async ({display_width: width, display_height: height} = NO_FILM) => {
      if (!writer) return;
      const film = {format: 'RGBA', width, height, display_width: width, display_height: height};
      await present(film, new ArrayBuffer(4 * width * height));
    };
    const noSource = () => new DOMException('The element has no supported sources.', 'NotSupportedError');
    const settlePromises = () => {
      for (const {resolve, reject} of promises.splice(0))
        if (state.broken) reject(noSource());
        else resolve();
    };

    // -- playing
    const startByItself = () => {
      if (state.started || !byItself()) return;
      state.started = true;
      state.position = beginning();
      state.at = Math.max(state.load.from(), offset() * 1000);
      begin(state.at);
    };
    const begin = at => {
      state.paused = false;
      if (at > clock.now) {
        state.paused = true;
        state.start = clock.addTask({callback: () => {
          if (state.controlled) return;
          state.at = at;
          state.paused = false;
          changed();
          fire('play');
          fire('playing');
        }, args: [], window, document, report: native.reportError}, at);
        return;
      }
      changed();
      fire('play');
    };
    state.play = () => {
      state.controlled = true;
      if (state.broken) return Promise.reject(noSource());
      state.open();
      const promise = new Promise((resolve, reject) => { promises.push({resolve, reject}); });
      promise.catch(() => {});
      if (state.paused) {
        anchor(state.ended ? bounded(0) : state.current());
        Object.assign(state, {paused: false, ended: false, posterShown: false});
        state.load?.begin?.();
        attach();
        changed();
        queueEvents('play');
        if (state.readyState === ENOUGH) queue(() => { fire('playing'); settlePromises(); });
      } else if (state.readyState === ENOUGH) queue(settlePromises);
      return promise;
    };
    state.pause = () => {
      state.controlled = true;
      state.open();
      if (state.paused) return;
      anchor();
      state.paused = true;
      changed();
      queueEvents('timeupdate', 'pause');
    };
    state.seek = position => {
      state.controlled = true;
      state.open();
      state.load?.begin?.();
      const {start, duration} = state.film ?? {start: 0, duration: Infinity};
      anchor(Math.min(Math.max(start, Number(position) || 0), duration));
      state.ended = state.position >= duration && !element.loop;
      state.posterShown = false;
      attach();
      changed();
      if (state.readyState === NOTHING) {
        state.soughtEarly = true;
        return;
      }
      state.seeking++;
      queueEvents('seeking');
      queue(() => {
        if (--state.seeking) return;
        for (const name of ['timeupdate', 'seeked']) fire(name);
        state.calledFor = -1;
        state.callFrameCallbacks();
      }, () => state.show());
    };
    state.setRate = rate => {
      if (!(rate >= 0 && rate <= 16)) throw new DOMException('The playback rate is out of range.', 'NotSupportedError');
      if (rate === state.rate) return;
      anchor();
      state.rate = rate;
      changed();
      queueEvents('ratechange');
    };
    state.alter = set => {
      anchor();
      set();
      changed();
    };
    state.tick = () => {
      if (element.isConnected) state.connected = true;
      else if (state.connected) {
        state.connected = false;
        if (!state.paused) state.pause();
      }
      if (!state.paused && state.readyState === ENOUGH) fire('timeupdate');
      if (element.textTracks.length && [...element.textTracks].some(track => track.cues?.length))
        warn(`the captions of the ${kind} ${state.label()} come and go by the wall clock`);
      if (element.controls && element.isConnected)
        warn(`the controls of the ${kind} ${state.label()} are drawn, and know nothing of the page's clock`);
    };
    // Frame 0 begins: who plays by himself begins anew, who was started by a script goes on where he is.
    state.zero = passed => {
      state.at -= passed;
      state.segments = [];
      if (!state.controlled && state.started) {
        if (state.start) clock.removeTimer(state.start);
        Object.assign(state, {position: beginning(), at: offset() * 1000, paused: false, ended: false});
        if (state.at > 0) begin(state.at);
      } else if (!state.paused) anchor(bounded(advanced(0)));
      changed();
    };
    state.waited = () => state.load.begun && !state.load.done && state.window.document.contains(hostOf(element));

    // -- pictures: the native element plays a stream of our frames, so that layout, filters and drawing are its own
    const attach = () => {
      if (!state.source || state.broken || state.film && !state.film.width) return;
      if (kind !== 'video' || state.foreign || generator || lazy()) return;
      if (posterIsSeen()) return;
      generator = new Generator({kind: 'video'});
      writer = generator.writable.getWriter();
      original.srcObject.set.call(element, new MediaStream([generator]));
    };
    const posterIsSeen = () => element.poster && state.posterShown && state.paused && !byItself();
    const detach = () => {
      if (!generator) return;
      original.srcObject.set.call(element, null);
      generator.stop();
      generator = writer = null;
      state.shown = -1;
    };
    const frameAt = position => {
      const {times} = state.film;
      let low = 0, high = times.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (times[middle] <= position) low = middle; else high = middle - 1;
      }
      return low;
    };
    const frameNow = at => frameAt(wrapped(advanced(at) + state.film.epsilon));
    const fetchFrame = index => ask('frame', {element: hostId, source: nameOf(state.source), index});
    state.show = async () => {
      if (state.foreign || kind !== 'video') return;
      if (posterIsSeen()) detach();
      if (!state.film?.width) return;
      attach();
      if (!writer) return;
      for (let index; state.film && (index = frameNow(clock.now)) !== state.shown;) {
        const film = state.film, taken = ahead?.index === index ? ahead.data : fetchFrame(index);
        ahead = null;
        const data = await taken;
        if (film !== state.film) continue;
        const first = state.shown < 0;
        state.shown = index;
        state.presented++;
        if (data.byteLength !== film.bytes) {
          const why = new TextDecoder().decode(data.slice(0, config.labelChars));
          warn(`the ${kind} ${state.label()} has no frame at ${film.times[index]} s: ${why}`);
          if (first) await showNothing(film);
          continue;
        }
        await present(film, data);
      }
    };
    const present = async (film, data) => {
      const {format, width, height, display_width, display_height, color} = film;
      const timestamp = ++media.serial * 1000;
      state.surface = true;
      const frame = new NativeVideoFrame(data, {
        format, codedWidth: width, codedHeight: height, displayWidth: display_width, displayHeight: display_height,
        timestamp, transfer: [data], ...(color ? {colorSpace: color} : {}),
      });
      for (let attempt = 0; attempt < SHOWN_ATTEMPTS && writer; attempt++) {
        if (original.paused.get.call(element)) nativePlay.call(element).catch(() => {});
        await writer.write(frame.clone());
        if (await taken(timestamp)) { frame.close(); return; }
      }
      frame.close();
      warn(`the ${kind} ${state.label()} did not take its frame in time`);
    };
    // The element holds the frame as soon as a copy of its picture carries the frame's time stamp.
    const taken = async timestamp => {
      for (let waited = 0; waited < SHOWN_MS; waited++) {
        try {
          const copy = new NativeVideoFrame(element), found = copy.timestamp;
          copy.close();
          if (found === timestamp) return true;
        } catch { /* no picture yet */ }
        await new Promise(resolve => { native.setTimeout(resolve, waited ? 1 : 0); });
      }
      return false;
    };
    state.fetchAhead = () => {
      if (!state.film || !writer || state.paused || state.shown < 0) return;
      const index = frameNow(clock.now + config.stepMs);
      if (index === state.shown || ahead?.index === index) return;
      ahead = {index, data: fetchFrame(index)};
      ahead.data.catch(() => {});
    };
    state.callFrameCallbacks = () => {
      if (state.shown < 0 || state.shown === state.calledFor || !state.callbacks.size) return;
      state.calledFor = state.shown;
      const batch = state.callbacks;
      state.callbacks = new Map();
      const metadata = {
        presentationTime: clock.now, expectedDisplayTime: clock.now, processingDuration: 0,
        width: state.film.display_width, height: state.film.display_height,
        mediaTime: state.film.times[state.shown], presentedFrames: state.presented,
      };
      for (const callback of batch.values())
        try { callback.call(element, clock.now, {...metadata}); } catch (error) { native.reportError(error); }
    };

    // As in `Page.heed`.
    state.inPicture = () => {
      const box = element.getBoundingClientRect(), {innerWidth, innerHeight} = state.window;
      const seen = state.surface && element.isConnected && element.checkVisibility({opacityProperty: true})
        && box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
      const fresh = seen && !state.seen;
      state.seen = seen;
      return fresh ? 3 : state.surface && element.isConnected ? 2 : 0;
    };

    state.adopt = () => {
      if (original.srcObject.get.call(element) && !generator) { state.foreign = true; return; }
      state.open();
    };
    known.set(element, state);
    media.states.push(state);
    return state;
  };
  const stateOf = element => {
    if (known.has(element)) return known.get(element);
    const state = makeState(element);
    if (!element.isConnected) watch(element);
    state.adopt();
    return state;
  };
  const hostOf = element => {
    let node = element;
    for (let root = node.getRootNode(); root instanceof ShadowRoot; root = node.getRootNode()) node = root.host;
    return node;
  };

  // ---- finding elements: in documents and shadow roots, also those that are added later -----------------------------

  const adopt = node => {
    const element = node instanceof HTMLSourceElement ? node.parentNode : node;
    if (element instanceof HTMLMediaElement) stateOf(element).adopt();
    if (node.shadowRoot) watch(node.shadowRoot);
  };
  const adoptAll = root => {
    for (const node of root.querySelectorAll('*'))
      if (node instanceof HTMLMediaElement || node.shadowRoot) adopt(node);
  };
  const handle = records => {
    for (const {type, target, attributeName, addedNodes} of records) {
      if (type === 'attributes') {
        if (/^(src|preload)$/.test(attributeName)) adopt(target);
        else if (target instanceof HTMLMediaElement && known.has(target)) stateOf(target).alter(() => {});
        continue;
      }
      for (const node of addedNodes)
        if (node instanceof Element) { adopt(node); adoptAll(node); }
    }
  };
  // One for all: some pages make a shadow root for each of their elements, and new ones in every frame.
  const observer = new MutationObserver(handle);
  media.observed.add({window, document, look: () => handle(observer.takeRecords())});
  const watched = new WeakSet();
  const watch = root => {
    if (watched.has(root)) return;
    watched.add(root);
    if (root instanceof ShadowRoot) clock.addRoot(root);
    observer.observe(root, {subtree: true, childList: true, attributes: true, attributeFilter: ['src', 'preload', 'loop']});
    adoptAll(root);
  };
  const attachShadow = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function (...args) {
    const root = attachShadow.apply(this, args);
    watch(root);
    return root;
  };
  watch(document);

  // ---- what the page sees -------------------------------------------------------------------------------------------

  const accessor = (object, name, get, set) => {
    const before = describe(object, name);
    Object.defineProperty(object, name, {
      configurable: true, enumerable: true,
      get() {
        const state = stateOf(this);
        return state.foreign ? before.get.call(this) : get.call(this, state);
      },
      set: set && function (value) {
        const state = stateOf(this);
        if (state.foreign && name !== 'srcObject' && name !== 'src') before.set.call(this, value);
        else set.call(this, value, state);
      },
    });
  };
  const ranges = end => ({
    length: end > 0 ? 1 : 0,
    start(index) { if (index >= this.length) throw new DOMException('', 'IndexSizeError'); return 0; },
    end(index) { if (index >= this.length) throw new DOMException('', 'IndexSizeError'); return end; },
  });
  accessor(Media, 'paused', state => state.paused);
  accessor(Media, 'ended', state => state.ended);
  accessor(Media, 'seeking', state => state.seeking > 0);
  accessor(Media, 'duration', state => state.readyState ? state.film.duration : NaN);
  accessor(Media, 'readyState', state => state.readyState);
  accessor(Media, 'networkState', state => state.broken ? 3 : state.load ? 1 : 0);
  accessor(Media, 'error', state => state.broken && state.load.own !== null ? {code: 4, message: state.broken} : null);
  accessor(Media, 'currentSrc', state => state.source);
  accessor(Media, 'buffered', state => ranges(state.film?.duration ?? 0));
  accessor(Media, 'seekable', state => ranges(state.film?.duration ?? 0));
  accessor(Media, 'played', state => ranges(state.current()));
  accessor(Media, 'currentTime', state => state.current(), (value, state) => state.seek(value));
  accessor(Media, 'playbackRate', state => state.rate, (value, state) => state.setRate(Number(value)));
  accessor(Media, 'defaultPlaybackRate', state => state.defaultRate, (value, state) => {
    state.defaultRate = Number(value);
  });
  for (const name of ['loop', 'preservesPitch'])
    accessor(Media, name, function () { return original[name].get.call(this); }, function (value, state) {
      state.alter(() => original[name].set.call(this, value));
    });
  accessor(Media, 'src', function () { return original.src.get.call(this); }, function (value, state) {
    original.src.set.call(this, value);
    if (state.load) state.load.again = true;
    state.open();
  });
  accessor(Media, 'srcObject', () => null, function (value, state) {
    if (value instanceof Blob) { this.src = URL.createObjectURL(value); return; }
    state.foreign = Boolean(value);
    original.srcObject.set.call(this, value);
    if (!value) state.open();
  });
  for (const name of ['volume', 'muted'])
    accessor(Media, name, function () { return original[name].get.call(this); }, function (value, state) {
      original[name].set.call(this, value);
      state.volumeChanged();
    });
  accessor(Video, 'videoWidth', state => state.readyState ? state.film.display_width : 0);
  accessor(Video, 'videoHeight', state => state.readyState ? state.film.display_height : 0);
  const call = (name, before, now) => define(Media, name, function (...args) {
    const state = stateOf(this);
    return state.foreign ? before.apply(this, args) : now(state, ...args);
  });
  call('play', nativePlay, state => state.play());
  call('pause', nativePause, state => state.pause());
  call('load', nativeLoad, state => {
    if (state.load) state.load.again = true;
    state.open();
    state.load?.begin?.();
  });
  define(Media, 'fastSeek', function (position) { this.currentTime = position; });
  define(Video, 'requestVideoFrameCallback', function (callback) {
    const state = stateOf(this), id = state.nextCallback++;
    state.callbacks.set(id, callback);
    return id;
  });
  define(Video, 'cancelVideoFrameCallback', function (id) { stateOf(this).callbacks.delete(id); });

  // Elements that are in no document are found when somebody listens to them: what they say is said in virtual time.
  define(Media, 'addEventListener', function (...args) {
    stateOf(this);
    return listen.apply(this, args);
  });
  for (const name of EVENTS) {
    const {get, set} = describe(HTMLElement.prototype, `on${name}`);
    defineGetter(Media, `on${name}`, get, function (value) { stateOf(this); set.call(this, value); });
  }
  window.Audio = new Proxy(window.Audio, {construct(...args) {
    const element = Reflect.construct(...args);
    stateOf(element);
    return element;
  }});

  control.warn = warn;
  // `free`: the page may move to the next frame for it.
  control.sounds = async free => {
    if (clock.computing?.size) await control.goAhead(free);
    await clock.saveRecordings(0);
    return media.sounds();
  };
  Object.defineProperty(control, 'warnings', {get: () => media.warnings});
}
