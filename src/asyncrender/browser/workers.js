// Workers go by the clock of who made them: that stands after each message to a worker until it has nothing more to do at
// the present time. The other way, too: an answer to what a worker says comes before its own clock goes on. Runs in every
// document, and in every worker, after surroundings.js.
(config, key) => {
  'use strict';
  const {clock, native, define, defineConstructor} = window[key];
  const {Worker} = window;
  native.Worker = Worker;

  // ---- who makes a worker leads it ------------------------------------------------------------------------------------

  // What was ordered, in the order in which it was. Workers carry it out side by side, but are heard one after the other:
  // what one says waits until those before it are done.
  const makeLine = () => {
    const orders = [];
    let calling = false;
    const call = async () => {
      if (calling) return;
      calling = true;
      while (orders.length) {
        const [{said, over, release}] = orders;
        if (said.length) {
          said.shift()();
          await clock.turn();
        } else if (over) {
          orders.shift();
          release();
        } else break;
      }
      calling = false;
    };
    return {
      add(leader, number) {
        orders.push({leader, number, said: [], over: false, release: clock.hold()});
      },
      // Whether this can be heard at once; else `later` is called when it is its turn.
      hears(leader, later) {
        const its = orders.filter(order => order.leader === leader);
        const order = its.find(order => !order.over) ?? its.findLast(order => order.said.length);
        if (!order || order === orders[0] && !calling) return true;
        order.said.push(later);
        call();
        return false;
      },
      end(leader, number = Infinity) {
        for (const order of orders) if (order.leader === leader && order.number <= number) order.over = true;
        call();
      },
    };
  };
  const line = clock.line ??= makeLine();
  const leaders = new WeakMap();

  const lead = worker => {
    let ordered = 0, heard = 0, lost = false, gone = false, watched = false;
    const post = message => native.post.call(worker, {[key]: message});
    // One that is deaf to our orders for so long, because it computes, is not waited for any more until it hears.
    const watch = () => {
      if (watched) return;
      const before = heard;
      watched = true;
      clock.setRealTimeout(() => {
        watched = false;
        if (lost || heard === ordered) return;
        if (heard !== before) return watch();
        leader.lose();
        window[key].warn?.('a worker does not answer: what it does comes in its own time, not at that of a frame');
      }, config.requestSeconds * 1000);
    };
    const order = (name, now = clock.now) => {
      if (!clock.alive({window, document})) return leader.end();
      post({name, now, number: ++ordered});
      if (lost) return;
      line.add(leader, ordered);
      watch();
    };
    const leader = {
      tell: () => post({now: clock.now}),
      join: late => post({late}),
      ask: () => order('settle'),
      move: time => order('moveTo', time),
      zero: () => order('zero'),
      lose() {
        lost = true;
        line.end(leader);
      },
      end() {
        leader.lose();
        clock.workers.delete(leader);
      },
      terminate() {
        gone = true;
        leader.end();
      },
    };
    const putOff = new WeakSet();
    const hear = event => {
      if (putOff.has(event)) return;
      const message = event.data?.[key];
      const later = () => {
        if (gone) return;
        if (message) return post(message);
        const {data, origin, source, ports} = event, again = new MessageEvent('message', {data, origin, source, ports});
        putOff.add(again);
        worker.dispatchEvent(again);
      };
      if (message) event.stopImmediatePropagation();
      if (message?.heard) {
        heard = message.heard;
        lost = false;
      } else if (message?.over) line.end(leader, message.over);
      else if (message?.closed) leader.end();
      else if (!line.hears(leader, later)) event.stopImmediatePropagation();
      else if (message) post(message);
    };
    worker.addEventListener('message', hear);
    worker.addEventListener('error', () => { if (!heard) leader.lose(); });  // perhaps its script is missing
    leaders.set(worker, leader);
    clock.workers.add(leader);
    leader.ask();
  };
  if (Worker) {
    native.post = Worker.prototype.postMessage;
    defineConstructor('Worker', (construct, args) => {
      const [address, options] = args;
      // Its name says at what time it begins.
      const named = {...options, name: `${key}${clock.now} ${options?.name ?? ''}`};
      const wrong = !args.length || typeof (options ?? {}) !== 'object';
      const worker = construct(wrong ? args : [address, named]);
      lead(worker);
      return worker;
    });
    define(Worker.prototype, 'postMessage', function (...args) {
      leaders.get(this)?.tell();
      native.post.apply(this, args);
      leaders.get(this)?.ask();
    });
    const {terminate} = Worker.prototype;
    define(Worker.prototype, 'terminate', function () {
      leaders.get(this)?.terminate();
      terminate.call(this);
    });
  }

  // ---- in a worker ----------------------------------------------------------------------------------------------------

  let awaitEcho = () => {};
  if (!document) {
    const echoes = new Map();
    let echo = 0, working = Promise.resolve();
    awaitEcho = () => {
      echoes.set(++echo, clock.hold());
      post({[key]: {echo}});
    };
    const post = window.postMessage.bind(window), close = window.close.bind(window);
    const [, now, name] = window.name.match(new RegExp(`^${key}(\\S+) (.*)$`, 's')) ?? [null, 0, window.name];
    define(window, 'name', name);
    clock.join(Number(now));
    const carryOut = async ({name, now, number}) => {
      if (name === 'zero') clock.zero();
      else if (name === 'moveTo') await clock.moveTo(now);
      else await clock.settle();
      post({[key]: {over: number}});
    };
    window.addEventListener('message', event => {
      const message = event.data?.[key];
      if (!message) return;
      event.stopImmediatePropagation();
      if ('echo' in message) {
        echoes.get(message.echo)();
        echoes.delete(message.echo);
        return;
      }
      if ('late' in message) return clock.join(clock.now + message.late);
      if (message.name !== 'moveTo') clock.now = Math.max(clock.now, message.now);
      if (!message.name) return;
      post({[key]: {heard: message.number}});
      working = working.then(() => carryOut(message)).catch(native.reportError);
    });
    define(window, 'postMessage', (...args) => {
      post(...args);
      awaitEcho();
    });
    define(window, 'close', () => {
      post({[key]: {closed: true}});
      close();
    });
  }
  // It goes by way of the browser: the last one to listen hears it when all have.
  const listenToo = channel => {
    const release = clock.hold(), echo = new BroadcastChannel(channel.name);
    const end = () => {
      echo.close();
      release();
    };
    echo.onmessage = end;
    return end;
  };
  // Who is at the other end nobody knows.
  for (const {prototype} of [window.MessagePort, window.BroadcastChannel]) {
    const {postMessage} = prototype;
    define(prototype, 'postMessage', function (...args) {
      for (const worker of clock.workers) worker.tell();
      const giveUp = this instanceof BroadcastChannel ? listenToo(this) : null;
      try { postMessage.apply(this, args); } catch (error) { giveUp?.(); throw error; }
      for (const worker of clock.workers) worker.ask();
      awaitEcho();
    });
  }
}
