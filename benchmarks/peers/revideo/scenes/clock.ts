// Calls a scene's draw(seconds) in every frame, for as long as the render is.
import { tween, useScene } from '@revideo/core';

export function* everyFrame(draw: (seconds: number) => void) {
  const seconds = (useScene().variables.get('frames', 300)() as number) / 30;
  yield* tween(seconds, share => draw(share * seconds));
}
