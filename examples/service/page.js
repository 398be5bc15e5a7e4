// Orders a film, shows how far it is, plays it. The server does the rest.

const form = document.querySelector('form');
const bar = document.querySelector('progress');
const words = document.querySelector('output');
const video = document.querySelector('video');
let cancel = () => {};

const say = text => {
  words.textContent = text;
};

const begin = () => {
  form.render.disabled = true;
  video.hidden = true;
  video.removeAttribute('src');
  video.load();
  bar.value = 0;
  say('Sent.');
};

const end = text => {
  form.render.disabled = false;
  form.cancel.disabled = true;
  say(text);
};

const describe = ({state, progress}) => {
  if (!progress) return state === 'waiting' ? 'Waiting for others.' : 'Getting ready.';
  const left = progress.eta_seconds === null ? '' : `, ${Math.ceil(progress.eta_seconds)} s left`;
  return `${progress.stage}: frame ${progress.frames_done} of ${progress.frames_total}${left}`;
};

const follow = links => {
  const source = new EventSource(links.events);
  const ends = {
    finished: () => {
      video.src = links.film;
      video.hidden = false;
      return 'Finished.';
    },
    failed: ({error}) => `Failed: ${error.message}`,
    cancelled: () => 'Cancelled.',
  };
  source.addEventListener('progress', event => {
    const told = JSON.parse(event.data);
    bar.value = told.progress?.fraction ?? 0;
    say(describe(told));
  });
  for (const [name, ended] of Object.entries(ends))
    source.addEventListener(name, event => {
      source.close(); // else the browser would ask again, and again be told how it ended
      const told = JSON.parse(event.data);
      bar.value = told.progress?.fraction ?? 0;
      end(ended(told));
    });
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) end('The server does not know this render any more.');
  });
};

form.addEventListener('submit', async event => {
  event.preventDefault();
  begin();
  try {
    // Who closes the tab wants no film.
    const body = JSON.stringify({html: form.html.value, cancel_on_disconnect: true});
    const answer = await fetch('renders', {method: 'POST', headers: {'Content-Type': 'application/json'}, body});
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    cancel = () => fetch(told.links.self, {method: 'DELETE'});
    form.cancel.disabled = false;
    follow(told.links);
  } catch (error) {
    end(`Not taken: ${error.message}`);
  }
});

form.cancel.addEventListener('click', () => {
  form.cancel.disabled = true;
  cancel();
});
