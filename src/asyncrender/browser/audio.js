// AudioContext goes by the page's clock: what time it is there, whether it runs, how far its nodes have computed, when what
// it plays is over. Runs in every document after surroundings.js; what media elements play in it: audiosources.js.
(config, key) => {
  'use strict';
  const control = window[key], {clock, native, define, defineGetter, defineConstructor, entry, methods} = control;
  const Base = BaseAudioContext.prototype, Context = AudioContext.prototype, {OfflineAudioContext} = window;
  const states = new WeakMap();

  const timeOf = ({time, at, name}) => name === 'running' ? time + (clock.lived() - at) / 1000 : time;
  const soon = callback => clock.addTask(entry(callback), clock.now);
  // What the browser says of itself it says by the wall clock. To be called before the page can listen.
  const keepFromSaying = (target, name, kept) => target.addEventListener(name, event => {
    if (event.isTrusted && kept()) event.stopImmediatePropagation();
  });
  const change = (context, name) => new Promise(resolve => {
    const state = states.get(context);
    soon(() => {
      resolve();
      if (state.name === name || state.name === 'closed') return;
      Object.assign(state, {time: timeOf(state), at: clock.lived(), name});
      for (const sound of state.sounds) sound.expect();
      context.dispatchEvent(new Event('statechange'));
    });
  });

  // ---- contexts that compute as far as the clock has come -----------------------------------------------------------

  // The browser's own computes in real time. In its place stands one that renders into memory, and stops where it is told.
  const QUANTUM = 128;  // frames: Web Audio API, "render quantum"; it stops between two
  const BLOCK = 2 * QUANTUM;  // the fewest that a ScriptProcessorNode takes
  const SAMPLE_RATE = 48000;
  // A page may live for so long before frame 0. For films of more than MOST_SECONDS, 192 KB each, there is no room.
  const BEFORE_SECONDS = 30, MOST_SECONDS = 1800;
  const {suspend, resume} = OfflineAudioContext.prototype;
  const rendering = (newTarget, {sampleRate = SAMPLE_RATE} = {}) => {
    const length = Math.ceil((config.duration + BEFORE_SECONDS) * sampleRate);
    const context = Reflect.construct(OfflineAudioContext, [1, length, sampleRate], newTarget);
    return Object.assign(makeState(context), {length});
  };
  const makeState = context => {
    const state = {
      context, length: 0, name: 'suspended', time: 0, at: 0, sounds: new Set(), elements: [], reached: 0, begun: false,
      window, document,
    };
    states.set(context, state);
    return state;
  };
  const reach = async (state, ahead) => {
    const {context, length} = state, rate = context.sampleRate;
    const runs = state.name === 'running', time = timeOf(state) + (runs ? ahead / 1000 : 0);
    // What does not go on for now is brought to the end of what is recorded at once.
    const frame = runs ? Math.floor(time * rate / QUANTUM) * QUANTUM : Math.ceil(time * rate / BLOCK) * BLOCK;
    if (frame <= state.reached || frame >= length) return;
    for (const element of state.elements) await element.follow(state.reached / rate);
    state.reached = frame;
    const there = suspend.call(context, frame / rate), going = (state.begun ? resume : native.renderAudio).call(context);
    state.begun = true;
    // Where there is no memory for it, it computes nothing.
    await Promise.race([there, going.then(() => there, () => { state.length = 0; })]);
  };
  const computing = clock.computing ??= new Set();
  let reaching = Promise.resolve();
  const reachAll = async ahead => {
    for (const state of computing) {
      if (clock.alive(state)) await reach(state, ahead);
      if (state.name === 'closed' || !clock.alive(state)) computing.delete(state);
    }
    if (computing.size) await clock.turn();  // what worklets say meanwhile
    await clock.saveRecordings?.(1);
  };
  // As far as the clock has come, or so many ms ahead of it.
  clock.reachAudio ??= (ahead = 0) => {
    reaching = reaching.then(() => reachAll(ahead));
    return reaching;
  };

  const {webkitAudioContext} = window;
  defineConstructor('AudioContext', (construct, args, newTarget) => {
    const computes = config.duration <= MOST_SECONDS;
    if (!computes) control.warn?.(`Web Audio is not captured in films of more than ${MOST_SECONDS} s`);
    const state = computes ? rendering(newTarget, args[0]) : makeState(construct(args)), {context} = state;
    if (computes) computing.add(state);
    keepFromSaying(context, 'statechange', () => true);
    change(context, 'running');
    return context;
  });
  if (webkitAudioContext) define(window, 'webkitAudioContext', window.AudioContext);

  const ours = (object, name, get) => {
    const original = Object.getOwnPropertyDescriptor(object, name);
    if (!original) return;
    defineGetter(object, name, function () {
      return states.has(this) ? get(states.get(this)) : original.get.call(this);
    }, original.set && function (value) { if (!states.has(this)) original.set.call(this, value); });
  };
  const {get: destination} = Object.getOwnPropertyDescriptor(Base, 'destination');
  ours(Base, 'destination', state => control.audio.destinationOf(state));
  ours(Base, 'currentTime', timeOf);
  ours(Base, 'state', state => state.name);
  for (const name of ['baseLatency', 'outputLatency']) ours(Context, name, () => 0);
  for (const name of ['onerror', 'onsinkchange', 'playbackStats', 'playoutStats']) ours(Context, name, () => null);
  ours(Context, 'sinkId', () => '');
  define(Context, 'setSinkId', async () => {});
  define(Context, 'getOutputTimestamp', function () {
    return {contextTime: this.currentTime, performanceTime: clock.now};
  });
  for (const [name, becomes] of [['resume', 'running'], ['suspend', 'suspended'], ['close', 'closed']]) {
    const order = Context[name];
    define(Context, name, function () {
      if (!states.get(this)?.length) order.call(this).catch(() => {});
      if (this.state !== 'closed') return change(this, becomes);
      return Promise.reject(new DOMException(`Cannot ${name} a closed AudioContext.`, 'InvalidStateError'));
    });
  }

  // ---- when a sound is over -----------------------------------------------------------------------------------------

  const sounds = new WeakMap();
  const {start: startBuffer} = AudioBufferSourceNode.prototype, {stop} = AudioScheduledSourceNode.prototype;
  // In seconds. What is automated counts as it is when it is asked.
  const lengthOf = ({buffer, loop, playbackRate, detune}, offset, duration = Infinity) => {
    const most = loop || !buffer ? Infinity : buffer.duration - offset;
    return Math.min(most, duration) / (playbackRate.value * 2 ** (detune.value / 1200));
  };
  const follow = (source, state, [when = 0, offset = 0, duration]) => {
    const began = Math.max(when, timeOf(state)), buffered = source instanceof AudioBufferSourceNode;
    const sound = {stop: Infinity, task: 0};
    sound.forget = () => {
      state.sounds.delete(sound);
      sounds.delete(source);
    };
    const end = () => Math.min(began + (buffered ? lengthOf(source, offset, duration) : Infinity), sound.stop);
    const over = () => {
      sound.forget();
      source.dispatchEvent(new Event('ended'));
    };
    sound.expect = () => {
      clock.removeTimer(sound.task);
      sound.task = 0;
      const left = Math.max(0, end() - timeOf(state)) * 1000;
      if (state.name === 'running' && left < Infinity) sound.task = clock.addTask(entry(over), clock.now + left);
    };
    sounds.set(source, sound);
    state.sounds.add(sound);
    sound.expect();
  };
  // What we have not foreseen, as of a loop that the page ends, comes when the browser says so.
  const watched = source => {
    keepFromSaying(source, 'ended', () => {
      const sound = sounds.get(source), foreseen = sound?.task !== 0;
      if (!foreseen) sound.forget();
      return foreseen && states.has(source.context);
    });
    return source;
  };
  methods('BaseAudioContext', ['createBufferSource', 'createConstantSource', 'createOscillator'], watched);
  for (const name of ['AudioBufferSourceNode', 'ConstantSourceNode', 'OscillatorNode'])
    defineConstructor(name, (construct, args) => watched(construct(args)));
  for (const {prototype} of [AudioScheduledSourceNode, AudioBufferSourceNode]) {
    const {start} = prototype;
    define(prototype, 'start', function (...args) {
      start.apply(this, args);
      const state = states.get(this.context);
      if (state) follow(this, state, args);
    });
  }
  define(AudioScheduledSourceNode.prototype, 'stop', function (when = 0) {
    stop.call(this, when);
    const sound = sounds.get(this);
    if (!sound) return;
    sound.stop = Math.max(when, this.context.currentTime);
    sound.expect();
  });
  // What pages, such as those with p5.sound, put something of their own in place of.
  const {connect} = AudioNode.prototype, {GainNode} = window;
  // A node whose type is the browser's, and whose sound is ours.
  const nodeOf = (context, type, properties) => {
    const node = Object.setPrototypeOf(new GainNode(context), window[type].prototype);
    for (const [name, value] of Object.entries(properties)) Object.defineProperty(node, name, {value, enumerable: true});
    return node;
  };
  control.audio = {states, timeOf, nodeOf, connect, destination, start: startBuffer, stop, QUANTUM, BLOCK};
}
