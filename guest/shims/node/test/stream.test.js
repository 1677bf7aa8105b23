'use strict';
// Handlers that stream their response: `awslambda.streamifyResponse`.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { KIND, frame, load } = require('./host.js');

const WINDOW = 256 << 10;

const handler = (body) => `exports.handler = awslambda.streamifyResponse(async (event, stream, context) => { ${body} });`;

test('the head comes first and chunks before the handler has ended', async (t) => {
  const { main } = await load(t, `let go; ${handler(`
    const http = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'X-A': '1' }, cookies: ['a=1'] });
    http.write('first');
    await new Promise((resolve) => { setTimeout(resolve, 20); });
    http.end(Buffer.from([0xff, context.functionName.length]));`)}`);
  const reply = main.stream({});
  const [head, first] = await main.output(reply.id, 2);
  assert.deepEqual(JSON.parse(head), {
    statusCode: 201, headers: { 'X-A': '1', 'content-type': 'application/octet-stream' }, cookies: ['a=1'],
  });
  assert.equal(`${first}`, 'first');
  assert.ok(!main.frames.some(({ kind }) => kind === KIND.RESULT));
  assert.deepEqual([(await reply).kind, (await reply).text], [KIND.RESULT, 'null']);
  assert.deepEqual([...main.chunks.get(reply.id)[2]], [0xff, 5]);
});

test('without a head the status is 200 and the type what was set', async (t) => {
  const { main } = await load(t, handler("stream.setContentType('text/html'); stream.end();"));
  const reply = main.stream({});
  assert.equal((await reply).kind, KIND.RESULT);
  assert.deepEqual(main.chunks.get(reply.id).map((chunk) => JSON.parse(chunk)), [{ statusCode: 200, headers: { 'content-type': 'text/html' } }]);
});

test('no more is sent than is credited, and writing waits for it', async (t) => {
  const { main } = await load(t, handler(`
    const { pipeline } = require('stream/promises');
    await pipeline(function* () { for (let i = 0; i < 16; i++) yield Buffer.alloc(64 << 10, i); }, stream);`));
  const reply = main.stream({});
  const total = () => (main.chunks.get(reply.id) ?? []).reduce((sum, chunk) => sum + chunk.length, 0);
  let credited = WINDOW;
  while (total() < credited) await main.expect('chunk');
  assert.equal(total(), credited);
  let done = false;
  void reply.then(() => { done = true; });
  while (!done) {
    main.credit(reply.id, total() - credited + WINDOW);
    credited = total() + WINDOW;
    await Promise.race([main.expect('chunk'), reply]);
    assert.ok(total() <= credited);
  }
  assert.equal((await reply).kind, KIND.RESULT);
  const [head, ...body] = main.chunks.get(reply.id);
  const bytes = Buffer.concat(body);
  assert.equal(bytes.length, 1 << 20);
  for (let i = 0; i < 16; i++) assert.equal(bytes[i * (64 << 10)], i);
  assert.equal(JSON.parse(head).statusCode, 200);
});

test('a host that does not stream gets the whole as one result', async (t) => {
  const { main } = await load(t, handler(`
    if (event.head) stream = awslambda.HttpResponseStream.from(stream, { statusCode: 404, headers: { 'content-type': 'text/plain' } });
    for (const piece of event.pieces) stream.write(Buffer.from(piece, 'base64'));
    stream.end();`));
  const pieces = (...texts) => texts.map((text) => Buffer.from(text).toString('base64'));
  for (const [event, expected] of [
    [{ pieces: pieces('{"a":', '1}') }, { a: 1 }],
    [{ pieces: pieces('no ', 'JSON') }, 'no JSON'],
    [{ pieces: [] }, ''],
    [{ head: true, pieces: pieces('text') }, { statusCode: 404, headers: { 'content-type': 'text/plain' }, body: 'text', isBase64Encoded: false }],
    [{ head: true, pieces: ['/w=='] }, { statusCode: 404, headers: { 'content-type': 'text/plain' }, body: '/w==', isBase64Encoded: true }],
  ]) {
    const reply = await main.invoke(event);
    assert.equal(reply.kind, KIND.RESULT, reply.text);
    assert.deepEqual(reply.json, expected);
  }
  assert.equal(main.chunks.size, 0);
});

test('what is collected is bounded', async (t) => {
  const { main } = await load(t, handler('for (let i = 0; i < 7; i++) stream.write(Buffer.alloc(1 << 20)); stream.end();'));
  const reply = await main.invoke({});
  assert.equal(reply.kind, KIND.ERROR);
  assert.match(reply.json.message, /more than 6291456 bytes/);
});

test('failures fail the call, before and after the first chunk', async (t) => {
  const { main } = await load(t, handler(`
    if (event.at === 'destroy') return stream.destroy();
    if (event.at === 'after') await new Promise((resolve) => stream.write('x', resolve));
    if (event.at === 'head') { awslambda.HttpResponseStream.from(stream, { headers: { a: 'x'.repeat(70000) } }); return stream.end('x'); }
    throw new TypeError('no');`));
  for (const [at, message] of [['before', 'no'], ['after', 'no'], ['destroy', 'the response stream was closed before its end'], ['head', /at most 65536/]]) {
    const reply = await main.stream({ at });
    assert.equal(reply.kind, KIND.ERROR, at);
    assert.equal(reply.json.kind, 'FunctionError');
    assert.match(reply.json.message, typeof message === 'string' ? new RegExp(`^${message}$`) : message);
  }
  assert.equal((await main.invoke({ at: 'before' })).json.message, 'no');
  const sync = await load(t, "exports.handler = awslambda.streamifyResponse(() => { throw new Error('at once'); });");
  for (const _ of [1, 2]) assert.equal((await sync.main.stream({})).json.message, 'at once');
});

test('a cancelled response ends although nobody takes it', async (t) => {
  const { main } = await load(t, handler('while (true) await new Promise((resolve, reject) => stream.write(Buffer.alloc(65536), (error) => error ? reject(error) : resolve()));'));
  const reply = main.stream({});
  await main.output(reply.id, 4);
  main.socket.write(frame(KIND.CANCEL, reply.id));
  assert.equal((await reply).kind, KIND.ERROR);
  main.credit(reply.id, 65536); // of a call that has ended
});

test('with several slots each call has its own response', async (t) => {
  const source = handler("console.log(event); await new Promise((resolve) => setTimeout(resolve, event)); stream.end(`${event}`);");
  const { main } = await load(t, source, { settings: { concurrency: 2 } });
  const slow = main.stream(20);
  const fast = main.stream(1);
  for (const [reply, text] of [[fast, '1'], [slow, '20']]) {
    assert.deepEqual((await reply).logs, [['info', text]]);
    assert.equal(`${main.chunks.get(reply.id)[1]}`, text);
  }
});

test('functions that do not stream answer a host that does with a result', async (t) => {
  const { main } = await load(t, 'exports.handler = async (event) => event;');
  const reply = main.stream([1]);
  assert.deepEqual((await reply).json, [1]);
  assert.equal(main.chunks.size, 0);
});

test('the global can be replaced', async (t) => {
  const source = "'use strict'; globalThis.awslambda = { mine: true }; exports.handler = async () => awslambda.mine;";
  const { main } = await load(t, source);
  assert.equal((await main.invoke(null)).json, true);
});
