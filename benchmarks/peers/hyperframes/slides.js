  // The same slides in HyperFrames' own way, with GSAP, whose stillness it can see.
  gsap.set('section, section > div', { animation: 'none' });
  for (let turn = 0; turn * 2 < SECONDS; turn++) {
    const slide = `#slide${turn % 5}`, at = turn * 2, immediateRender = turn === 0;
    timeline.set(slide, { zIndex: turn + 1, immediateRender }, at);
    timeline.fromTo(slide, { x: 1920 }, { x: 0, duration: 0.4, ease: 'power1.out', immediateRender }, at);
    timeline.fromTo(`${slide} > div`, { opacity: 0 }, { opacity: 1, duration: 0.4, ease: 'none', immediateRender }, at);
  }
  timeline.set({}, {}, SECONDS);
