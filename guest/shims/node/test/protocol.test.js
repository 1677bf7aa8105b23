'use strict';
// Frames and connections.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { KIND, Sandbox, frame, invokeFrame, load } = require('./host.js');

const ECHO = 'exports.handler = async (event) => event;';
const SLOW = 'exports.handler = async (event) => { await new Promise((resolve) => setTimeout(resolve, event.ms ?? 0)); return event; };';

test('1000 calls may be outstanding, answered as they finish', async (t) => {
  const { main } = await load(t, SLOW, { settings: { concurrency: 1000 } });
  const order = [];
  const calls = [...Array(1000).keys()].map((n) =>
    main.invoke({ n, ms: n === 0 ? 300 : 10 }).then((reply) => {
      order.push(n);
      assert.deepEqual(reply.json, { n, ms: n === 0 ? 300 : 10 });
    }),
  );
  await Promise.all(calls);
  assert.equal(order.at(-1), 0);
});

test('frames may be split at every byte', async (t) => {
  const { main } = await load(t, ECHO);
  const bytes = Buffer.concat([1, 2, 3].map((id) => invokeFrame(id, { id })));
  const replies = [1, 2, 3].map((id) => main.expect(id));
  for (const byte of bytes) {
    main.socket.write(Buffer.from([byte]));
    await new Promise(setImmediate);
  }
  assert.deepEqual((await Promise.all(replies)).map(({ json }) => json.id), [1, 2, 3]);
});

test('frames may come many at once, with a part of the next', async (t) => {
  const { main } = await load(t, ECHO, { settings: { concurrency: 16 } });
  const replies = [];
  const frames = [];
  for (let id = 1; id <= 3000; id++) {
    replies.push(main.expect(id));
    frames.push(invokeFrame(id, { id, text: 'x'.repeat(id % 500) }));
  }
  const bytes = Buffer.concat(frames);
  for (let at = 0; at < bytes.length; at += 65_537) main.socket.write(bytes.subarray(at, at + 65_537));
  (await Promise.all(replies)).forEach(({ json }, i) => assert.equal(json.id, i + 1));
});

test('calls may follow init without waiting for its answer', async (t) => {
  for (const source of [ECHO, 'await new Promise((r) => setTimeout(r, 20)); export const handler = (event) => event;']) {
    const sandbox = await Sandbox.start(t, { files: { 'index.js': source, 'index.mjs': source } });
    const [init, first, second] = ['init', 1, 2].map((key) => sandbox.main.expect(key));
    sandbox.main.socket.write(Buffer.concat([sandbox.initFrame(), invokeFrame(1, 'a'), invokeFrame(2, 'b')]));
    assert.equal((await init).kind, KIND.INIT_OK);
    assert.deepEqual([(await first).json, (await second).json], ['a', 'b']);
  }
});

test('every connection has its own ids, and replies return on it', async (t) => {
  const sandbox = await load(t, `exports.handler = async (event) => { console.log(event); await null; return event; };`, { settings: { concurrency: 2 } });
  const other = await sandbox.connect();
  assert.equal(sandbox.ready.kind, KIND.READY);
  const [one, two] = await Promise.all([sandbox.main.invoke('one', { id: 1 }), other.invoke('two', { id: 1 })]);
  assert.deepEqual([one.json, one.logs], ['one', [['info', 'one']]]);
  assert.deepEqual([two.json, two.logs], ['two', [['info', 'two']]]);
  other.socket.destroy();
  assert.equal((await sandbox.main.invoke('three')).json, 'three');
});

test('a cancelled call may end, and an unknown id is ignored', async (t) => {
  const { main } = await load(t, ECHO);
  main.socket.write(Buffer.concat([frame(KIND.CANCEL, 12345), invokeFrame(1, 1), frame(KIND.CANCEL, 1)]));
  assert.equal((await main.expect(1)).json, 1);
});

test('a frame of unknown kind or impossible length closes the connection', async (t) => {
  const bytes = (length) => Buffer.from([length, length >>> 8, length >>> 16, length >>> 24, 2, 0, 0, 0, 0]);
  for (const bad of [frame(99, 1), frame(KIND.INVOKE, 1, Buffer.alloc(10)), bytes(4), bytes(0), bytes(8 * 1024 * 1024 + 1)]) {
    const sandbox = await load(t, ECHO);
    const other = await sandbox.connect();
    other.socket.write(bad);
    await other.closed;
    assert.equal((await sandbox.main.invoke('still here')).json, 'still here');
  }
});

test('a second init closes the connection', async (t) => {
  const sandbox = await load(t, ECHO);
  const other = await sandbox.connect();
  other.socket.write(sandbox.initFrame());
  await other.closed;
});

test('the shim ends when the host has left', async (t) => {
  const sandbox = await load(t, `setInterval(() => {}, 1000); ${ECHO}`);
  const other = await sandbox.connect();
  sandbox.main.socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(sandbox.process.exitCode, null);
  other.socket.destroy();
  assert.equal(await sandbox.exit, 0);
});

test('a host that reads slowly gets everything', async (t) => {
  const { main } = await load(t, `exports.handler = (n) => String(n).repeat(1_000_000);`, { settings: { concurrency: 8 } });
  main.socket.pause();
  const replies = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => main.invoke(n));
  await new Promise((resolve) => setTimeout(resolve, 100));
  main.socket.resume();
  (await Promise.all(replies)).forEach(({ json }, i) => assert.equal(json, String(i + 1).repeat(1_000_000)));
});

test('a warmed shim behaves the same', async (t) => {
  const sandbox = await load(t, `console.log('top'); ${SLOW}`, { warm: true });
  assert.deepEqual((await sandbox.main.invoke({ a: 1 })).json, { a: 1 });
  assert.deepEqual(sandbox.main.logs.get(0), [['info', 'top']]);
  assert.equal(sandbox.stdout() + sandbox.stderr(), '');
});

test('a node without process.binding serves over net', async (t) => {
  const preload = ['--require', `${__dirname}/without-binding.js`];
  const sandbox = await load(t, `exports.handler = async (event) => { console.log(event); return event; };`, { nodeArguments: preload });
  const event = 'x'.repeat(1_000_000);
  assert.equal((await sandbox.main.invoke(event)).json, event);
  sandbox.main.socket.destroy();
  assert.equal(await sandbox.exit, 0);
});
