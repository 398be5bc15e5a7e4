// AudioContext goes by the page's clock: what time it is there, whether it runs, when what it plays is over. What its
// nodes compute is not seen, and comes in real time as ever. Runs in every document after surroundings.js.
(config, key) => {
  'use strict';
  const {clock, define, defineGetter, defineConstructor, entry, methods} = window[key];
  const Base = BaseAudioContext.prototype, Context = AudioContext.prototype;
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
  const {webkitAudioContext} = window;
  defineConstructor('AudioContext', (construct, args) => {
    const context = construct(args);
    states.set(context, {name: 'suspended', time: 0, at: 0, sounds: new Set()});
    keepFromSaying(context, 'statechange', () => true);
    change(context, 'running');
    return context;
  });
  if (webkitAudioContext) define(window, 'webkitAudioContext', window.AudioContext);

  const ours = (object, name, get) => {
    const original = Object.getOwnPropertyDescriptor(object, name).get;
    defineGetter(object, name, function () { return states.has(this) ? get(states.get(this)) : original.call(this); });
  };
  ours(Base, 'currentTime', timeOf);
  ours(Base, 'state', state => state.name);
  ours(Context, 'outputLatency', () => 0);
  define(Context, 'getOutputTimestamp', function () {
    return {contextTime: this.currentTime, performanceTime: clock.now};
  });
  for (const [name, becomes] of [['resume', 'running'], ['suspend', 'suspended'], ['close', 'closed']]) {
    const order = Context[name];
    define(Context, name, function () {
      const answer = order.call(this);
      if (!states.has(this)) return answer;
      answer.catch(() => {});
      if (this.state !== 'closed') return change(this, becomes);
      return Promise.reject(new DOMException(`Cannot ${name} a closed AudioContext.`, 'InvalidStateError'));
    });
  }

  // ---- when a sound is over -----------------------------------------------------------------------------------------

  const sounds = new WeakMap();
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
  const {stop} = AudioScheduledSourceNode.prototype;
  define(AudioScheduledSourceNode.prototype, 'stop', function (when = 0) {
    stop.call(this, when);
    const sound = sounds.get(this);
    if (!sound) return;
    sound.stop = Math.max(when, this.context.currentTime);
    sound.expect();
  });
}
