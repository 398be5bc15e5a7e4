/** @jsxImportSource @revideo/2d/lib */
import { makeScene2D, Rect, Txt } from '@revideo/2d';
import { everyFrame } from './clock';

const SLIDES = [
  ['Quarterly review', '#102a43'],
  ['Pipeline', '#3d1f47'],
  ['Customers', '#14403a'],
  ['Latency', '#4a2f12'],
  ['Thank you', '#1c1c3c'],
];

const text: any = { fontFamily: 'sans-serif', fill: '#fff', offset: [-1, -1] };
const glass: any = { fill: 'rgba(255, 255, 255, .12)', shadowColor: 'rgba(0, 0, 0, .4)', shadowBlur: 40, shadowOffsetY: 12 };

const card = (slide: number, number: number) => (
  <Rect width={533} height={340} radius={24} x={-573.5 + 573.5 * (number - 1)} y={-110} {...glass}>
    <Txt text={`${slide * (number + 2) * 7}%`} fontWeight={700} fontSize={72} x={-230} y={-134} {...text} />
    <Txt
      text={`Card ${number} of slide ${slide}: a few words of body text that wrap onto several lines inside the card.`}
      textWrap
      width={460}
      lineHeight={45}
      fontSize={32}
      x={-230}
      y={-20}
      {...text}
    />
  </Rect>
);

const point = (words: string, number: number) => <Txt text={words} fontSize={40} x={-800} y={130 + 64 * number} {...text} />;

const slide = ([title, colour]: string[], number: number) => (
  <Rect width={1920} height={1080} fill={colour}>
    <Txt text={`${number}. ${title}`} fontWeight={700} fontSize={96} x={-840} y={-450} {...text} />
    {[1, 2, 3].map(each => card(number, each))}
    {point(`First point about ${title.toLowerCase()}`, 0)}
    {point('Second point with a little more text', 1)}
    {point('Third and last point', 2)}
  </Rect>
);

export default makeScene2D('slides', function* (view) {
  const slides = SLIDES.map((about, index) => slide(about, index + 1) as Rect);
  view.add(slides);
  yield* everyFrame(seconds => {
    slides.forEach((each, index) => {
      const cycle = (seconds - index * 2 + 10) % 10, missing = 1 - Math.min(1, cycle / 0.4);
      each.x(1920 * missing * missing);
      each.zIndex(cycle < 2 ? 2 : cycle < 4 ? 1 : 0);
    });
  });
});
