// What media elements and streams play in an AudioContext that computes as the page's clock moves. An element's sound is read
// as a whole, and played from where the element is. Runs in every document after audio.js.
(config, key) => {
  'use strict';
  const {clock, native, audio, define, defineConstructor} = window[key];
  const {states, timeOf, nodeOf, connect} = audio, {decodeAudioData} = BaseAudioContext.prototype;
  const {AudioBufferSourceNode, MediaStreamTrackGenerator} = window, Context = AudioContext.prototype;
  const gainOf = Object.getOwnPropertyDescriptor(GainNode.prototype, 'gain').get;

  // Null: nothing that can be heard, or that may not be read.
  const decoded = async (context, source) => {
    try {
      return await decodeAudioData.call(context, await native.arrayBuffer.call(await native.fetch(source)));
    } catch { return null; }
  };
  // One element's sound: a source node for each stretch in which it plays evenly.
  const feed = (state, element, node) => {
    const {context} = state, gain = gainOf.call(node), buffers = new Map(), since = clock.lived();
    let source = null, stretch = null;
    // In seconds of the context.
    const timeAt = at => timeOf(state) - (clock.now - at) / 1000;
    const goesOn = now => stretch && now && ['source', 'rate', 'loop'].every(name => now[name] === stretch[name])
      && Math.abs(now.position - stretch.position - (now.at - stretch.at) / 1000 * now.rate) < 1e-6;
    const begin = (now, when, buffer) => {
      source = new AudioBufferSourceNode(context, {buffer, loop: now.loop, playbackRate: now.rate});
      connect.call(source, node);
      const offset = now.position + (when - timeAt(now.at)) * now.rate;
      audio.start.call(source, when, now.loop ? offset % buffer.duration : Math.max(0, offset));
    };
    // What happened since `from`, up to where the context has computed.
    const follow = async from => {
      const {at, ...now} = clock.media?.playing(element) ?? {at: clock.now}, when = Math.max(from, timeAt(at));
      gain.value = now.gain ?? 1;
      const playing = now.source ? {at, ...now} : null;
      if (playing === stretch || goesOn(playing)) return;
      if (source) audio.stop.call(source, when);
      source = null;
      stretch = playing;
      if (!playing) return;
      if (!buffers.has(now.source)) buffers.set(now.source, await decoded(context, now.source));
      if (!buffers.get(now.source)) return;
      clock.media.take(element, since);
      begin(playing, when, buffers.get(now.source));
    };
    return {follow};
  };

  const taken = new WeakSet();
  const elementSource = (context, mediaElement) => {
    if (!(mediaElement instanceof HTMLMediaElement)) throw new TypeError('The element is no HTMLMediaElement.');
    if (taken.has(mediaElement)) throw new DOMException('The element is connected already.', 'InvalidStateError');
    taken.add(mediaElement);
    const node = nodeOf(context, 'MediaElementAudioSourceNode', {mediaElement}), state = states.get(context);
    state.elements.push(feed(state, mediaElement, node));
    return node;
  };
  // Nothing comes from a stream: there is no microphone. One that goes out is silent.
  const streamSource = (context, mediaStream) => nodeOf(context, 'MediaStreamAudioSourceNode', {mediaStream});
  const streamDestination = context => nodeOf(context, 'MediaStreamAudioDestinationNode',
    {stream: new MediaStream([new MediaStreamTrackGenerator({kind: 'audio'})])});

  for (const [method, type, make, given] of [
    ['createMediaElementSource', 'MediaElementAudioSourceNode', elementSource, 'mediaElement'],
    ['createMediaStreamSource', 'MediaStreamAudioSourceNode', streamSource, 'mediaStream'],
    ['createMediaStreamDestination', 'MediaStreamAudioDestinationNode', streamDestination],
  ]) {
    const create = Context[method];
    define(Context, method, function (...args) {
      return states.get(this)?.length ? make(this, ...args) : create.apply(this, args);
    });
    defineConstructor(type, (construct, [context, options, ...rest]) =>
      states.get(context)?.length ? make(context, options?.[given]) : construct([context, options, ...rest]));
  }
}
