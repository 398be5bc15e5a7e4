// Moves the page in the way its renderer wants it; the address says which:
//   no fragment  CSS animations run by themselves, draw(seconds) follows asyncrender's seek or the frames' timestamps
//   #seek        nothing runs; seek(seconds) puts all at a time
//   #raf         all, CSS too, is put at the frames' timestamps
//   #pn          all, CSS too, is put at performance.now()
// A page may have a draw(seconds); a renderer may have a hold(): as long as it says true, #raf stays at the beginning.
{
  const draw = window.draw ?? (() => {});
  const mode = location.hash;

  let animations = null;
  window.seek = seconds => {
    if (!animations) {
      animations = document.getAnimations();
      for (const animation of animations) animation.pause();
    }
    for (const animation of animations) animation.currentTime = seconds * 1000;
    draw(seconds);
  };

  const everyFrame = act => {
    const tick = timestamp => {
      act(timestamp ?? performance.now());  // web-video-creator gives the first frame no timestamp
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  };

  // Seconds since the first frame that was not held.
  let began = null;
  const sinceBeginning = timestamp => {
    if (window.hold?.()) return 0;
    began ??= timestamp;
    return (timestamp - began) / 1000;
  };

  draw(0);
  if (mode === '#seek') window.seek(0);
  else if (mode === '#pn') everyFrame(() => window.seek(performance.now() / 1000));
  else if (mode === '#raf') everyFrame(timestamp => window.seek(sinceBeginning(timestamp)));
  else if (window.asyncrender) window.asyncrender.seek = draw;
  else if (window.draw) everyFrame(timestamp => draw(sinceBeginning(timestamp)));
}
