/** @jsxImportSource @revideo/2d/lib */
import { Img, makeScene2D } from '@revideo/2d';
import { createRef } from '@revideo/core';
import { everyFrame } from './clock';
import photo from './photo.jpg';

export default makeScene2D('photo', function* (view) {
  const image = createRef<Img>();
  yield view.add(<Img ref={image} src={photo} width={1920} height={1080} />);
  yield* everyFrame(seconds => {
    const near = (seconds % 10) / 10, scale = 1 + 0.3 * near;
    image().scale(scale);
    image().x(-40 * near * scale);
    image().y(-25 * near * scale);
  });
});
