// The four scenes as Remotion compositions: what the pages do with CSS, from the frame's number.
import React from 'react';
import {
  AbsoluteFill,
  Composition,
  Easing,
  Img,
  interpolate,
  registerRoot,
  staticFile,
  useCurrentFrame,
  useVideoConfig,
} from 'remotion';

const LONGEST_FRAMES = 18_000; // ten minutes: all run on for as long as one wants

const easeInOut = Easing.bezier(0.42, 0, 0.58, 1);
const easeOut = Easing.bezier(0, 0, 0.58, 1);
const useSeconds = () => useCurrentFrame() / useVideoConfig().fps;
const whole = { position: 'absolute', left: 0, top: 0, width: 1920, height: 1080 };

const Stage = ({ children }) => (
  <AbsoluteFill style={{ background: '#0b1020', overflow: 'hidden', fontFamily: 'sans-serif', color: '#fff' }}>
    {children}
  </AbsoluteFill>
);

const Dom = () => {
  const t = useSeconds();
  const there = 1 - Math.abs((t % 4) - 2) / 2;
  const breath = easeInOut(1 - Math.abs((t % 4) - 2) / 2);
  return (
    <Stage>
      <div
        style={{
          position: 'absolute',
          width: 300,
          height: 300,
          borderRadius: 40,
          background: 'linear-gradient(45deg, #f06, #4af)',
          transform: `translate(${1500 * there}px, ${700 * there}px) rotate(${(t % 4) * 90}deg)`,
        }}
      />
      <h1
        style={{
          position: 'absolute',
          left: 100,
          top: 100,
          margin: 0,
          fontSize: 120,
          opacity: 0.1 + 0.9 * breath,
          letterSpacing: 20 * breath,
        }}
      >
        Hello render
      </h1>
      <div style={{ position: 'absolute', right: 40, bottom: 40, font: '60px monospace' }}>{t.toFixed(2)} s</div>
    </Stage>
  );
};

const Canvas = () => {
  const t = useSeconds();
  const canvas = React.useRef(null);
  React.useLayoutEffect(() => {
    const paper = canvas.current.getContext('2d', { alpha: false });
    paper.fillStyle = '#0b1020';
    paper.fillRect(0, 0, 1920, 1080);
    for (let i = 0; i < 400; i++) {
      const x = 960 + Math.sin(i * 1.7 + t) * 800, y = 540 + Math.cos(i * 2.3 + t * 1.3) * 480;
      paper.fillStyle = `hsla(${(i * 7 + t * 20) % 360}, 80%, 60%, .5)`;
      paper.beginPath();
      paper.arc(x, y, 20 + 10 * Math.sin(i + t), 0, Math.PI * 2);
      paper.fill();
    }
  }, [t]);
  return (
    <Stage>
      <canvas ref={canvas} width={1920} height={1080} style={whole} />
    </Stage>
  );
};

const SLIDES = [
  ['Quarterly review', '#102a43'],
  ['Pipeline', '#3d1f47'],
  ['Customers', '#14403a'],
  ['Latency', '#4a2f12'],
  ['Thank you', '#1c1c3c'],
];

const SLIDES_STYLE = `
  * { box-sizing: border-box; }
  h2 { margin: 0 0 50px; font-size: 96px; }
  .row { display: flex; gap: 40px; }
  .card {
    flex: 1;
    height: 340px;
    padding: 36px;
    border-radius: 24px;
    background: rgba(255, 255, 255, .12);
    box-shadow: 0 12px 40px rgba(0, 0, 0, .4);
  }
  .card b { font-size: 72px; }
  .card p { margin: 32px 0; font-size: 32px; line-height: 1.4; }
  ul { margin: 50px 0 0; padding-left: 40px; font-size: 40px; line-height: 1.6; }
`;

const Slide = ({ number, seconds }) => {
  const [title, background] = SLIDES[number];
  const cycle = (seconds - number * 2 + 10) % 10;
  const entered = interpolate(cycle, [0, 0.4], [0, 1], { extrapolateRight: 'clamp' });
  const zIndex = cycle < 2 ? 2 : cycle < 4 ? 1 : 0;
  return (
    <section style={{ ...whole, background, zIndex, transform: `translateX(${1920 * (1 - easeOut(entered))}px)` }}>
      <div style={{ padding: '90px 120px', opacity: entered }}>
        <h2>
          {number + 1}. {title}
        </h2>
        <div className="row">
          {[1, 2, 3].map(card => (
            <div key={card} className="card">
              <b>{(number + 1) * (card + 2) * 7}%</b>
              <p>
                Card {card} of slide {number + 1}: a few words of body text that wrap onto several lines inside the card.
              </p>
            </div>
          ))}
        </div>
        <ul>
          <li>First point about {title.toLowerCase()}</li>
          <li>Second point with a little more text</li>
          <li>Third and last point</li>
        </ul>
      </div>
    </section>
  );
};

const Slides = () => {
  const seconds = useSeconds();
  return (
    <Stage>
      <style>{SLIDES_STYLE}</style>
      {SLIDES.map((_, number) => (
        <Slide key={number} number={number} seconds={seconds} />
      ))}
    </Stage>
  );
};

const Photo = () => {
  const near = (useSeconds() % 10) / 10;
  const transform = `scale(${1 + 0.3 * near}) translate(${-40 * near}px, ${-25 * near}px)`;
  return (
    <Stage>
      <Img src={staticFile('photo.jpg')} style={{ ...whole, transform }} />
    </Stage>
  );
};

const SCENES = { dom: Dom, canvas: Canvas, slides: Slides, photo: Photo };
const size = { width: 1920, height: 1080, fps: 30, durationInFrames: LONGEST_FRAMES };

registerRoot(() => (
  <>
    {Object.entries(SCENES).map(([id, component]) => (
      <Composition key={id} id={id} component={component} {...size} />
    ))}
  </>
));
