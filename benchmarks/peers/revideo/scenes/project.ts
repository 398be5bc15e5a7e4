// The four scenes drawn again with Revideo's own nodes: it does not render web pages.
import { Color, makeProject, Vector2 } from '@revideo/core';
import canvas from './canvas';
import dom from './dom';
import photo from './photo';
import slides from './slides';

const scenes: any = { canvas, dom, photo, slides };

export default makeProject({
  name: 'project',
  scenes: [scenes[process.env.SCENE as string]],
  variables: { frames: 300 },
  settings: {
    shared: { background: new Color('#0b1020'), range: [0, Infinity], size: new Vector2(1920, 1080) },
    preview: { fps: 30, resolutionScale: 1 },
    rendering: { exporter: { name: '@revideo/core/wasm' }, fps: 30, resolutionScale: 1, colorSpace: 'srgb' },
  },
} as any);
