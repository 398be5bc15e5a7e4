// What documents have, and workers have not, in place of the browser's own: animations, elements. Runs in every document
// after surroundings.js.
(config, key) => {
  'use strict';
  const {clock, native, define, defineGetter, defineConstructor, entry, methods} = window[key];

  const getters = ({prototype}) => Object.entries(Object.getOwnPropertyDescriptors(prototype)).filter(([, one]) => one.get);
  for (const [name, {get}] of getters(PerformanceTiming))
    defineGetter(PerformanceTiming.prototype, name, function () { return get.call(this) && config.epoch; });
  // How long the machine took for what is no mark or measure of the page's own: no time.
  const TIMED = ['PerformanceEntry', 'PerformanceResourceTiming', 'PerformanceNavigationTiming', 'PerformancePaintTiming',
    'PerformanceEventTiming', 'PerformanceLongAnimationFrameTiming', 'PerformanceElementTiming', 'LargestContentfulPaint'];
  const isTime = name => /(start|end|time|timestamp|duration|interactive|complete)$/i.test(name);
  for (const {prototype} of TIMED.map(type => window[type]).filter(Boolean)) {
    for (const [name, {get}] of getters({prototype}).filter(([name]) => isTime(name)))
      defineGetter(prototype, name, function () {
        const time = get.call(this);
        return /^(mark|measure)$/.test(this.entryType) ? time : 0;
      });
    const {toJSON} = prototype;
    define(prototype, 'toJSON', function () {
      const told = Object.entries(toJSON.call(this));
      return Object.fromEntries(told.map(([name, value]) => [name, isTime(name) ? this[name] : value]));
    });
  }
  defineGetter(AnimationTimeline.prototype, 'currentTime', () => clock.now);
  // One that the page makes would go by the compositor's ticks. That it may begin at another time is lost.
  define(window, 'DocumentTimeline', new Proxy(DocumentTimeline, {construct: () => document.timeline}));
  const startTime = Object.getOwnPropertyDescriptor(Animation.prototype, 'startTime');
  defineGetter(Animation.prototype, 'startTime', function () {
    if (startTime.get.call(this) === null) return null;
    return clock.now - Number(this.currentTime ?? 0) / (this.playbackRate || 1);
  }, function (value) {
    clock.catchUp(this);
    // With a start an animation runs, be it paused before or not yet begun.
    startTime.set.call(this, value === null ? null : native.timelineTime.call(document.timeline) ?? 0);
    if (value !== null) this.currentTime = (clock.now - Number(value)) * this.playbackRate;
    clock.anchor(this);
  });

  for (const name of ['play', 'pause', 'reverse', 'updatePlaybackRate', 'commitStyles']) {
    const begin = Animation.prototype[name];
    define(Animation.prototype, name, function (...args) {
      clock.catchUp(this);
      begin.apply(this, args);
      clock.begun.add(this);
      if (name === 'reverse' || name === 'updatePlaybackRate' && args[0] < 0) clock.backwards = true;
      if (name === 'reverse') clock.sought.set(this, Number(this.currentTime));
    });
  }
  methods('Element', ['animate'], animation => {
    clock.begun.add(animation);
    return animation;
  });
  const rate = Object.getOwnPropertyDescriptor(Animation.prototype, 'playbackRate');
  defineGetter(Animation.prototype, 'playbackRate', rate.get, function (value) {
    clock.catchUp(this);
    rate.set.call(this, value);
    clock.begun.add(this);
    if (value < 0) clock.backwards = true;
    clock.anchor(this);
  });
  defineGetter(Animation.prototype, 'currentTime', function () {
    clock.catchUp(this);
    return clock.timeOf(this);
  }, function (value) {
    native.setAnimationTime.call(this, value);
    if (value === null) clock.sought.delete(this);
    else clock.sought.set(this, Number(value));
  });
  const Svg = SVGSVGElement.prototype;
  define(Svg, 'pauseAnimations', function () { clock.anchorSmil(this, {paused: true}); });
  define(Svg, 'unpauseAnimations', function () { clock.anchorSmil(this, {paused: false}); });
  define(Svg, 'animationsPaused', function () { return clock.smilPaused(this); });
  define(Svg, 'getCurrentTime', function () { return clock.smilTime(this) / 1000; });
  define(Svg, 'setCurrentTime', function (seconds) {
    clock.anchorSmil(this, {time: Number(seconds) * 1000});
    clock.putSmil(this);
  });
  // They count from now on, not from the last frame.
  for (const name of ['beginElement', 'beginElementAt', 'endElement', 'endElementAt']) {
    const method = SVGAnimationElement.prototype[name];
    define(SVGAnimationElement.prototype, name, function (...args) {
      if (this.ownerSVGElement) clock.putSmil(this.ownerSVGElement);
      return method.apply(this, args);
    });
  }

  const attachShadow = Element.prototype.attachShadow;
  define(Element.prototype, 'attachShadow', function (...args) {
    const root = attachShadow.apply(this, args);
    clock.addRoot(root);
    return root;
  });
  // Shadow roots that stand in the markup are there without a call.
  const findRoots = root => {
    for (const {shadowRoot} of root.querySelectorAll('*'))
      if (shadowRoot) { clock.addRoot(shadowRoot); findRoots(shadowRoot); }
  };
  document.addEventListener('DOMContentLoaded', () => findRoots(document));

  const afterwards = callback => function (...args) {
    clock.callAfterwards(entry(() => Reflect.apply(callback, this, args)));
  };
  defineConstructor('IntersectionObserver', (construct, [callback, ...rest]) =>
    construct([typeof callback === 'function' ? afterwards(callback) : callback, ...rest]));

  // Where the window is, and how large, depends on how frames are taken.
  for (const name of ['screenX', 'screenY', 'screenLeft', 'screenTop']) define(window, name, 0);
  define(window, 'outerWidth', config.width);
  define(window, 'outerHeight', config.height);

  // The caret would blink by the wall clock: it stays.
  const steady = new CSSStyleSheet();
  steady.replaceSync(':root { caret-animation: manual }');
  const sheets = Object.getOwnPropertyDescriptor(Document.prototype, 'adoptedStyleSheets');
  defineGetter(Document.prototype, 'adoptedStyleSheets', sheets.get, function (value) {
    sheets.set.call(this, this === document ? [steady, ...[...value].filter(sheet => sheet !== steady)] : value);
  });
  document.adoptedStyleSheets = [];

  // What is drawn there is shown at once, not with the frame.
  const transfer = HTMLCanvasElement.prototype.transferControlToOffscreen;
  define(HTMLCanvasElement.prototype, 'transferControlToOffscreen', function () {
    clock.surfaces = true;
    return transfer.call(this);
  });

  // What it orders may be carried out for a drawing only: without any it would pile up.
  const {getContext} = HTMLCanvasElement.prototype;
  define(HTMLCanvasElement.prototype, 'getContext', function (...given) {
    if (/webgl|webgpu/.test(given[0])) clock.orders = true;
    return getContext.apply(this, given);
  });

  // ---- answers from outside hold the clock --------------------------------------------------------------------------

  const source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, 'src');
  defineGetter(HTMLImageElement.prototype, 'src', source.get, function (value) {
    source.set.call(this, value);
    if (this.complete || this.loading === 'lazy') return;
    const letGo = clock.hold(), release = () => { clock.images.delete(this); letGo(); };
    clock.images.set(this, release);
    for (const name of ['load', 'error']) this.addEventListener(name, release, {once: true});
  });
  // A font that is late comes all the same, however late it is: frames wait for it.
  const wantFonts = () => {
    for (const font of document.fonts) if (/optional|fallback/.test(font.display)) font.display = 'swap';
  };
  native.requestAnimationFrame(wantFonts);
  document.addEventListener('DOMContentLoaded', wantFonts);
  document.addEventListener('load', ({target}) => { if (target.sheet) wantFonts(); }, {capture: true});
  // From its callback on until that is done nothing is drawn of the page. (A frame's may leave before.)
  const {startViewTransition} = Document.prototype;
  define(Document.prototype, 'startViewTransition', function (how, ...rest) {
    const callback = typeof how === 'function' ? how : how?.update;
    if (!callback || window !== window.top) return startViewTransition.call(this, how, ...rest);
    let called = () => {};
    const update = {called: new Promise(resolve => { called = resolve; })}, done = () => clock.updates.delete(update);
    const tell = (...args) => {
      const changing = (async () => callback(...args))();
      changing.then(done, done);
      called();
      return changing;
    };
    const transition = startViewTransition.call(this, typeof how === 'function' ? tell : {...how, update: tell}, ...rest);
    clock.updates.add(update);
    return transition;
  });
  // It begins when the compositor has its pictures.
  for (const type of ['Document', 'Element'])
    methods(type, ['startViewTransition'], transition => {
      const begun = () => { clock.transitions--; };
      clock.transitions++;
      transition.ready.then(begun, begun);
      return transition;
    });
  const toBlob = HTMLCanvasElement.prototype.toBlob;
  define(HTMLCanvasElement.prototype, 'toBlob', function (callback, ...rest) {
    const release = clock.hold();
    try {
      toBlob.call(this, blob => { try { callback(blob); } finally { release(); } }, ...rest);
    } catch (error) { release(); throw error; }
  });
}
