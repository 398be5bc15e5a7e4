/** @jsxImportSource @revideo/2d/lib */
import { makeScene2D, Rect } from '@revideo/2d';
import { everyFrame } from './clock';

let t = 0;

class Circles extends Rect {
  protected override draw(paper: CanvasRenderingContext2D) {
    paper.save();
    paper.translate(-960, -540);
    for (let i = 0; i < 400; i++) {
      const x = 960 + Math.sin(i * 1.7 + t) * 800, y = 540 + Math.cos(i * 2.3 + t * 1.3) * 480;
      paper.fillStyle = `hsla(${(i * 7 + t * 20) % 360}, 80%, 60%, .5)`;
      paper.beginPath();
      paper.arc(x, y, 20 + 10 * Math.sin(i + t), 0, Math.PI * 2);
      paper.fill();
    }
    paper.restore();
  }
}

export default makeScene2D('canvas', function* (view) {
  view.add(new Circles({ width: 1920, height: 1080 }));
  yield* everyFrame(seconds => {
    t = seconds;
  });
});
