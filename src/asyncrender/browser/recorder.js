// Raw frames: the tab is captured as if it were shared in a call, so the compositor hands out what it draws, and a worker
// (writer.js) puts each frame into a file that the renderer reads. Runs in every document before the page's first script.
(config, key) => {
  'use strict';
  const {define, native} = window[key];
  const tell = window[config.written];
  delete window[config.written];
  if (!window.MediaDevices) return;
  const share = MediaDevices.prototype.getDisplayMedia;
  // What lets us capture the tab would also give the page a camera: it finds none, as without us.
  const refuse = async () => { throw new DOMException('Permission denied', 'NotAllowedError'); };
  for (const [name, value] of [['getDisplayMedia', refuse], ['getUserMedia', refuse], ['enumerateDevices', async () => []]])
    define(MediaDevices.prototype, name, value);
  if (window !== window.top) return;

  const {Blob, MediaStreamTrackProcessor} = window, {mediaDevices} = navigator;
  const {createObjectURL, revokeObjectURL} = URL;
  const recording = {state: 'unset', taken() {}};
  const begin = async () => {
    const source = createObjectURL(new Blob([config.writer], {type: 'text/javascript'}));
    const worker = new native.Worker(source, {name: key});
    const opened = new Promise((resolve, reject) => {
      // Once it has opened, nobody hears of a rejection.
      const fail = failed => {
        reject(new Error(failed));
        recording.taken(null);
        tell(JSON.stringify({failed}));
      };
      worker.onerror = event => fail(event.message);
      worker.onmessage = ({data}) => {
        if (data.opened) resolve(data.converts && worker);
        else if (data.failed) fail(data.failed);
        else if ('taken' in data) recording.taken(data.taken);
        else tell(JSON.stringify(data));
      };
    });
    const size = {width: {max: config.width}, height: {max: config.height}};
    // As many frames a second as there are ticks of a millisecond: none may be left out.
    const stream = await share.call(mediaDevices, {video: {...size, frameRate: {ideal: 1000}}, preferCurrentTab: true});
    const [track] = stream.getVideoTracks();
    const {readable} = new MediaStreamTrackProcessor({track, maxBufferSize: 8});
    const {width, height, slots, mark, converter} = config;
    worker.postMessage({readable, width, height, slots, mark, converter}, [readable]);
    recording.converter = await opened;
    revokeObjectURL(source);
    recording.track = track;  // lest it is collected
  };
  // Answers at once; `state` becomes "on", or the reason why not.
  window[key].record = () => {
    if (recording.state === 'unset') {
      recording.state = 'begins';
      begin().then(() => { recording.state = 'on'; }, error => { recording.state = `${error.name}: ${error.message}`; });
    }
    return recording.state;
  };
  // Has the worker write what is `given.picture`; where it lies then, or null (writer.js).
  window[key].hand = given => new Promise(resolve => {
    recording.taken = resolve;
    if (recording.converter) recording.converter.postMessage(given, [given.picture]);
    else {
      given.picture.close();
      resolve(null);
    }
  });
}
