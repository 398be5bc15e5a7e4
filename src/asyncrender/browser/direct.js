// The direct path: the picture of a page that shows nothing but one canvas is taken from the canvas itself, and the browser
// does not have to draw the page. What can be seen is looked at anew for each frame. Runs in every document after
// recorder.js; the worker that writes the picture is that of all frames.
(config, key) => {
  'use strict';
  const {clock, define, defineConstructor, methods, hand} = window[key];
  if (!hand || !window.VideoFrame) return;
  const {VideoFrame, CanvasRenderingContext2D, getComputedStyle} = window;
  const {width, height} = config;

  const papers = new WeakMap();
  const {getContext} = HTMLCanvasElement.prototype;
  define(HTMLCanvasElement.prototype, 'getContext', function (...given) {
    const context = getContext.apply(this, given);
    if (context instanceof CanvasRenderingContext2D) papers.set(this, context);
    return context;
  });
  // What the browser does, or calls, when it draws a page it would not do any more.
  let watched = false, calm = 0;
  for (const name of ['IntersectionObserver', 'ResizeObserver'])
    defineConstructor(name, (construct, args) => {
      watched = true;
      return construct(args);
    });
  methods('HTMLCanvasElement', ['captureStream'], stream => {
    watched = true;
    return stream;
  });
  // Of animations that are over it tells with one of the next frames.
  const CALM = 3;
  const {add} = clock.begun;
  clock.begun.add = animation => {
    calm = 0;
    return add.call(clock.begun, animation);
  };

  // Elements that a canvas may stand in, unless they are scrolled. By themselves they show nothing over it, and none has a
  // shadow tree of the browser's.
  const HOLDERS = new Set(['HTML', 'BODY', 'DIV', 'MAIN', 'SECTION', 'ARTICLE', 'FIGURE', 'P', 'SPAN']);
  // With other styles what stands in an element may look different.
  const PLAIN = {
    opacity: '1', filter: 'none', transform: 'none', translate: 'none', rotate: 'none', scale: 'none', offsetPath: 'none',
    mixBlendMode: 'normal', clip: 'auto', clipPath: 'none', maskImage: 'none', webkitMaskBoxImageSource: 'none',
    webkitBoxReflect: 'none', zoom: '1', contain: 'none', containerType: 'normal', contentVisibility: 'visible',
    outlineStyle: 'none', borderShape: 'none', resize: 'none',
  };
  // And a canvas itself with these.
  const WHOLE = {
    visibility: 'visible', padding: '0px', borderRadius: '0px', overflowClipMargin: 'content-box',
    objectPosition: '50% 50%', objectViewBox: 'none',
  };
  // Beside a canvas, in one element: more would take longer to look at than the page to be drawn.
  const MOST_NODES = 64;
  const isAll = (wanted, style) => Object.entries(wanted).every(([name, value]) => (style[name] ?? value) === value);
  // What stands below its holder has that one's background before it.
  const isPlain = style => isAll(PLAIN, style) && !style.zIndex.startsWith('-');
  const clips = ({overflowX, overflowY}) => overflowX !== 'visible' || overflowY !== 'visible';
  const fills = (element, {borderRadius, overflowClipMargin}) => {
    const {left, top} = element.getBoundingClientRect(), x = left + element.clientLeft, y = top + element.clientTop;
    return x <= 0 && y <= 0 && x + element.clientWidth >= width && y + element.clientHeight >= height
      && borderRadius === '0px' && overflowClipMargin === '0px';
  };
  // The root's clipping is the window's, and so is the body's unless the root clips, too.
  const shows = (element, style) => {
    const {documentElement, body} = document;
    if (element === documentElement || !clips(style)) return true;
    return element === body && !clips(getComputedStyle(documentElement)) || fills(element, style);
  };
  const isHidden = node => {
    if (node.nodeType === Node.TEXT_NODE) return !node.data.trim();
    return node.nodeType !== Node.ELEMENT_NODE || getComputedStyle(node).display === 'none';
  };
  const holds = (element, child) => {
    if (!HOLDERS.has(element.nodeName) || element.scrollLeft || element.scrollTop) return false;
    const style = getComputedStyle(element);
    if (!isPlain(style) || style.display === 'list-item' || !shows(element, style)) return false;
    for (const pseudo of ['::before', '::after'])
      if (!/^(none|normal)$/.test(getComputedStyle(element, pseudo).content)) return false;
    const {childNodes} = element;
    return childNodes.length <= MOST_NODES && [...childNodes].every(node => node === child || isHidden(node));
  };
  // Nothing moves by itself, or is told of it: no animation, no film.
  const stands = () =>
    !watched && clock.windows.size === 1 && !clock.shadowRoots.size && !clock.begun.size && !clock.updates.size
    && !clock.media?.states.some(({kind}) => kind !== 'audio') && !document.fullscreenElement
    && !document.getElementsByTagName('svg').length && !document.getAnimations().length;
  const fillsAll = canvas => {
    const {left, top, right, bottom} = canvas.getBoundingClientRect();
    return canvas.width === width && canvas.height === height
      && left === 0 && top === 0 && right === width && bottom === height
      && canvas.clientWidth === width && canvas.clientHeight === height && !canvas.hasAttribute('layoutsubtree');
  };
  const isUsual = context => {
    const {colorSpace, colorType = 'unorm8'} = context.getContextAttributes();
    return colorSpace === 'srgb' && colorType === 'unorm8' && !context.isContextLost?.();
  };
  // The canvas that is all of the page, or null.
  const lone = () => {
    const {length, 0: canvas} = document.getElementsByTagName('canvas');
    const context = length === 1 && papers.get(canvas);
    if (!context || !stands() || !isUsual(context) || !fillsAll(canvas)) return null;
    const style = getComputedStyle(canvas);
    if (!isPlain(style) || !isAll(WHOLE, style)) return null;
    for (let child = canvas, holder = canvas.parentNode; holder !== document; [child, holder] = [holder, holder.parentNode])
      if (!holder || !holds(holder, child)) return null;
    return canvas;
  };

  // Of these styles each may show something else under what stands in an element than its colour.
  const BARE = {
    backgroundImage: 'none', backgroundClip: 'border-box', backdropFilter: 'none', borderStyle: 'none',
    borderImageSource: 'none', boxShadow: 'none', columnRuleStyle: 'none', visibility: 'visible',
  };
  const WHITE = 0xffffff, SAME_LAYER = 1 << 24, CLEAR = 'rgba(0, 0, 0, 0)';
  const parse = colour => {
    const found = /^rgb\((\d+), (\d+), (\d+)\)$/.exec(colour);
    return found && (found[1] << 16 | found[2] << 8 | found[3]);
  };
  // The colour under a canvas, as convert.wat wants it; null if there is none, or not only one. The body's is that of the
  // window, unless the root has one.
  const groundOf = canvas => {
    const {documentElement, body} = document, root = getComputedStyle(documentElement);
    let ground = /^(normal|light)$/.test(root.colorScheme) ? WHITE : null;
    const chain = [];
    for (let element = canvas; element !== document; element = element.parentNode) chain.unshift(element);
    for (const element of chain) {
      const style = getComputedStyle(element), colour = style.backgroundColor;
      if (!isAll(BARE, style)) return null;
      if (colour === CLEAR) continue;
      const whole = element === documentElement || element === body && root.backgroundColor === CLEAR;
      if (element !== canvas && !whole && !fills(element, style)) return null;
      ground = parse(colour);
      if (ground === null) return null;
      if (element === canvas) ground |= SAME_LAYER;
    }
    return ground;
  };

  let fit = true;
  const look = () => {
    const canvas = fit && lone();
    calm = canvas ? calm + 1 : 0;
    return calm > CALM ? {ground: groundOf(canvas), picture: new VideoFrame(canvas, {timestamp: 0})} : null;
  };
  // Of the page as it is now: where its picture lies; null if it cannot be taken so. If it is `known`, the last picture was
  // taken so, too, and it may be the same.
  window[key].picture = async known => {
    let given = null;
    // A canvas that has seen what it may not show has no picture; nor is a page's fault here one of its frame.
    try { given = look(); } catch { return null; }
    if (!given) return null;
    const written = await hand({...given, known});
    fit = Boolean(written);
    return written;
  };
}
