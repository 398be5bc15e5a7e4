// What an AudioContext sounds like, recorded for the film: a WAV file that grows, which the renderer mixes in as if a media
// element played it. Runs in every document after audio.js.
(config, key) => {
  'use strict';
  const control = window[key], {clock, audio} = control, {nodeOf, connect, destination, QUANTUM, BLOCK} = audio;
  const {createScriptProcessor} = BaseAudioContext.prototype;
  const CHANNELS = 2, FRAME_BYTES = 4, HEADER_BYTES = 44;
  // By the end of a chunk its last frames have not been handed out, which are less than a block and a quantum. So all is
  // heard so much later, and a resampler has some frames beyond the end to look at: 10 ms at 48 kHz.
  const LATE_FRAMES = BLOCK + QUANTUM + 96;
  const FIRST_ELEMENT = 1 << 20;  // numbers that no media element has
  const recordings = clock.recordings ??= [];

  // Source: Multimedia Programming Interface and Data Specifications 1.0, "WAVE"; of a length that nobody knows yet.
  const header = rate => {
    const view = new DataView(new ArrayBuffer(HEADER_BYTES));
    const text = (at, word) => [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
    text(0, 'RIFF');
    view.setUint32(4, 0xffffffff, true);
    text(8, 'WAVEfmt ');
    view.setUint32(16, 16, true);
    for (const [at, value] of [[20, 1], [22, CHANNELS], [32, FRAME_BYTES], [34, 16]]) view.setUint16(at, value, true);
    for (const [at, value] of [[24, rate], [28, rate * FRAME_BYTES]]) view.setUint32(at, value, true);
    text(36, 'data');
    view.setUint32(40, 0xffffffff, true);
    return new Uint8Array(view.buffer);
  };
  const sample = value => Math.round(Math.max(-1, Math.min(1, value)) * 0x7fff);

  // Frames of the file follow the page's clock, also where the context did not run: `first` is at 0 of the file.
  const makeRecording = state => {
    const {context} = state, rate = context.sampleRate, number = recordings.length;
    const frame = Math.ceil(config.rate[1] / config.rate[0] * rate);
    const recording = {name: `webaudio:${number}`}, seconds = state.length / rate;
    let first = null, written = 0, saved = 0, pieces = [], blocks = state.reached / BLOCK;
    const add = piece => {
      pieces.push(piece);
      written += piece.length / CHANNELS;
    };
    const fill = at => {
      if (at - first > written) add(new Int16Array((at - first - written) * CHANNELS));
    };
    recording.take = (left, right) => {
      const time = blocks++ * BLOCK / rate;
      if (first === null && !left.some(Boolean) && !right.some(Boolean)) return;
      const at = Math.round((state.at / 1000 + time - state.time) * rate);
      first ??= at - frame;  // before its first frame nothing is heard of what sounds
      fill(at);
      add(Int16Array.from({length: CHANNELS * left.length}, (_, index) =>
        sample((index % CHANNELS ? right : left)[index >> 1])));
    };
    // Once there are so many seconds of it.
    recording.save = async least => {
      if (first === null) return;
      if (state.name !== 'running') fill(Math.round(clock.lived() / 1000 * rate));
      if (written - saved < Math.max(1, least * rate)) return;
      const parts = saved ? [] : [header(rate)], at = saved && HEADER_BYTES + saved * FRAME_BYTES;
      parts.push(...pieces);
      pieces = [];
      saved = written;
      await clock.media.record(recording.name, at, seconds, await new Blob(parts).arrayBuffer());
    };
    recording.sounds = () => {
      if (first === null) return [];
      const start = clock.sinceZero((first + LATE_FRAMES) / rate * 1000) / 1000, before = Math.max(0, -start);
      return [{element: FIRST_ELEMENT + number, source: recording.name, kind: 'audio', start: start + before, position: before}];
    };
    recordings.push(recording);
    return recording;
  };
  clock.saveRecordings ??= async least => { for (const recording of recordings) await recording.save(least); };
  clock.recorded ??= () => recordings.flatMap(recording => recording.sounds());

  // In place of a destination that cannot be listened to.
  const makeDestination = state => {
    const {context} = state, node = nodeOf(context, 'AudioDestinationNode', {maxChannelCount: 2, numberOfOutputs: 0});
    Object.assign(node, {channelCount: CHANNELS, channelCountMode: 'explicit'});
    if (!clock.media) {
      connect.call(node, destination.call(context));
      return node;
    }
    const recording = makeRecording(state), tap = createScriptProcessor.call(context, BLOCK, CHANNELS, 1);
    tap.onaudioprocess = ({inputBuffer}) => recording.take(inputBuffer.getChannelData(0), inputBuffer.getChannelData(1));
    connect.call(node, tap);
    connect.call(tap, destination.call(context));
    recording.tap = tap;
    return node;
  };
  audio.destinationOf = state => {
    if (!state.length) return destination.call(state.context);
    return state.destination ??= makeDestination(state);
  };
}
