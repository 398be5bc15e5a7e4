// Smooth scrolling. Chromium does it by a clock of its own, so it is told to jump; we go there in steps of the page's
// frames, by Chromium's curve (cc/animation/scroll_offset_animation_curve.cc, with what cc/base/features.cc gives it as
// kProgrammaticScrollAnimationOverride). Runs in every document after clock.js.
(config, key) => {
  'use strict';
  const {clock, define, defineGetter} = window[key];
  const LONGEST_MS = 1500;
  const duration = distance => Math.min(Math.sqrt(Math.abs(distance)) * 1000 / 60, LONGEST_MS);
  // CSS' cubic-bezier(.4, 0, 0, 1): for a share of the time, the share of the way.
  const ease = share => {
    const bezier = (t, one, two) => 3 * (1 - t) ** 2 * t * one + 3 * (1 - t) * t ** 2 * two + t ** 3;
    let low = 0, high = 1;
    for (let round = 0; round < 40; round++) {
      const middle = (low + high) / 2;
      if (bezier(middle, 0.4, 0) < share) low = middle; else high = middle;
    }
    return bezier(low, 0, 1);
  };
  const native = {};
  for (const name of ['scroll', 'scrollTo', 'scrollBy', 'scrollIntoView']) native[name] = Element.prototype[name];

  const root = () => document.scrollingElement ?? document.documentElement;
  const where = scroller => ({left: scroller.scrollLeft, top: scroller.scrollTop});
  const jump = (scroller, to) => native.scrollTo.call(scroller, {...to, behavior: 'instant'});
  const styled = scroller =>
    getComputedStyle(scroller === root() ? document.documentElement : scroller).scrollBehavior === 'smooth';
  const wished = (behavior, scroller) => behavior === 'smooth' || (behavior !== 'instant' && styled(scroller));

  const ways = new Map();  // of scrollers that are on their way
  // What snaps does so where it arrives, not on its way there.
  const unsnapped = scroller => {
    if (getComputedStyle(scroller).scrollSnapType === 'none') return null;
    const held = scroller.animate({scrollSnapType: ['none', 'none']}, 1);
    held.pause();
    return held;
  };
  const end = scroller => {
    ways.get(scroller)?.held?.finish();
    ways.delete(scroller);
  };
  const begin = (scroller, from) => {
    const to = where(scroller), distance = Math.max(Math.abs(to.left - from.left), Math.abs(to.top - from.top));
    if (distance === 0) return;
    const held = unsnapped(scroller);
    jump(scroller, from);
    ways.set(scroller, {from, to, held, duration: duration(distance)});
  };
  const arrive = (scroller, to) => {
    const {left, top} = where(scroller);
    jump(scroller, to);
    end(scroller);
    if (scroller.scrollLeft !== left || scroller.scrollTop !== top) return;
    // It was there already, but for a part of a pixel: the browser will not say that it has arrived.
    const whole = scroller === root();
    (whole ? document : scroller).dispatchEvent(new Event('scrollend', {bubbles: whole}));
  };
  const step = () => {
    for (const [scroller, way] of ways) {
      way.began ??= clock.now;
      const {from, to} = way, share = Math.min((clock.now - way.began) / way.duration, 1), gone = ease(share);
      if (share === 1) arrive(scroller, to);
      else jump(scroller, {left: from.left + (to.left - from.left) * gone, top: from.top + (to.top - from.top) * gone});
    }
  };
  clock.scrolls.add({window, document, step});

  // Let the browser jump, then go there from where it was.
  const scrolling = (scrollers, behavior, jumping) => {
    const from = scrollers.filter(scroller => wished(behavior, scroller)).map(scroller => [scroller, where(scroller)]);
    for (const scroller of scrollers) end(scroller);
    const result = jumping();
    for (const [scroller, position] of from) begin(scroller, position);
    return result;
  };
  const instantly = args => args.length === 1 && typeof args[0] === 'object' ? [{...args[0], behavior: 'instant'}]
    : args.length > 1 ? [{left: args[0], top: args[1], behavior: 'instant'}] : args;
  for (const name of ['scroll', 'scrollTo', 'scrollBy']) {
    define(Element.prototype, name, function (...args) {
      return scrolling([this], args[0]?.behavior, () => native[name].apply(this, instantly(args)));
    });
    const ofWindow = window[name].bind(window);
    define(window, name, (...args) => scrolling([root()], args[0]?.behavior, () => ofWindow(...instantly(args))));
  }
  const ancestors = element => {
    const found = [];
    for (let node = element; node; node = node.parentNode ?? node.host)
      if (node instanceof Element && (node.scrollHeight > node.clientHeight || node.scrollWidth > node.clientWidth))
        found.push(node);
    return [...new Set([...found, root()])];
  };
  define(Element.prototype, 'scrollIntoView', function (how = {}) {
    const options = typeof how === 'object' && how !== null ? how : {block: how ? 'start' : 'end'};
    const jumping = () => native.scrollIntoView.call(this, {...options, behavior: 'instant'});
    return scrolling(ancestors(this), options.behavior, jumping);
  });
  for (const name of ['scrollTop', 'scrollLeft']) {
    const {get} = Object.getOwnPropertyDescriptor(Element.prototype, name);
    defineGetter(Element.prototype, name, get, function (value) {
      const direction = name === 'scrollTop' ? 'top' : 'left', to = Number(value);
      scrolling([this], 'auto', () => jump(this, {[direction]: Number.isFinite(to) ? to : 0}));
    });
  }
  // A link to a part of the page: the browser has jumped there already.
  let hash = location.hash, before = {left: 0, top: 0};
  document.addEventListener('scroll', event => { if (event.target === document) before = where(root()); });
  addEventListener('hashchange', () => {
    if (location.hash !== hash && styled(root())) begin(root(), before);
    hash = location.hash;
  });
  addEventListener('scrollend', event => {
    const scroller = event.target === document ? root() : event.target;
    if (ways.has(scroller)) event.stopImmediatePropagation();
  }, {capture: true});
}
