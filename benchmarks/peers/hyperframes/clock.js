  // CSS animations are HyperFrames' own business; what the page draws follows the timeline.
  const draw = window.draw ?? (() => {});
  const clock = {
    now: 0,
    get seconds() {
      return this.now;
    },
    set seconds(value) {
      this.now = value;
      draw(value);
    },
  };
  timeline.fromTo(clock, { seconds: 0 }, { seconds: SECONDS, duration: SECONDS, ease: 'none' }, 0);
  draw(0);
