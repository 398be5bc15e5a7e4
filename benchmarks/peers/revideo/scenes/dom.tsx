/** @jsxImportSource @revideo/2d/lib */
import { Gradient, makeScene2D, Rect, Txt } from '@revideo/2d';
import { createRef } from '@revideo/core';
import { everyFrame } from './clock';

const colours = new Gradient({
  type: 'linear',
  from: [-150, 150],
  to: [150, -150],
  stops: [
    { offset: 0, color: '#f06' },
    { offset: 1, color: '#4af' },
  ],
});

export default makeScene2D('dom', function* (view) {
  const box = createRef<Rect>(), title = createRef<Txt>(), clock = createRef<Txt>();
  const text = { fontFamily: 'sans-serif', fill: '#fff' };
  view.add(
    <>
      <Rect ref={box} width={300} height={300} radius={40} fill={colours} />
      <Txt ref={title} text="Hello render" fontWeight={700} fontSize={120} offset={[-1, -1]} x={-860} y={-440} {...text} />
      <Txt ref={clock} text="0.00 s" fontSize={60} offset={[1, 1]} x={920} y={500} {...text} fontFamily="monospace" />
    </>,
  );
  yield* everyFrame(t => {
    const there = 1 - Math.abs((t % 4) - 2) / 2, breath = there * there * (3 - 2 * there);
    box().x(-810 + 1500 * there);
    box().y(-390 + 700 * there);
    box().rotation((t % 4) * 90);
    title().opacity(0.1 + 0.9 * breath);
    title().letterSpacing(20 * breath);
    clock().text(`${t.toFixed(2)} s`);
  });
});
