'use strict';
// INVOKE to RESULT or ERROR: handler forms, contexts, values and failures.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { KIND, Sandbox, load } = require('./host.js');

/** Calls a function once with this event. */
async function call(t, source, event, options) {
  const { main } = await load(t, source, options);
  return main.invoke(event);
}

async function failure(t, source, event) {
  const reply = await call(t, source, event);
  assert.equal(reply.kind, KIND.ERROR, reply.text);
  return reply.json;
}

test('async, sync and callback handlers answer', async (t) => {
  const source = `
    exports.handler = async (event) => ({ async: event });
    exports.sync = (event) => ({ sync: event });
    exports.callback = (event, context, callback) => { setTimeout(callback, 1, null, { callback: event }); };
    exports.promised = (event, context, callback) => new Promise((resolve) => setImmediate(resolve, 'promise'));
    exports.thenable = () => ({ then(resolve) { resolve('thenable'); } });`;
  for (const [name, expected] of [
    ['handler', { async: 1 }],
    ['sync', { sync: 1 }],
    ['callback', { callback: 1 }],
    ['promised', 'promise'],
    ['thenable', 'thenable'],
  ]) {
    const reply = await call(t, source, 1, { settings: { handler: `index.${name}` } });
    assert.equal(reply.kind, KIND.RESULT);
    assert.deepEqual(reply.json, expected);
  }
});

test('a callback with an error fails the call, and only the first answer counts', async (t) => {
  const source = `exports.handler = (event, context, callback) => { callback(new TypeError('bad')); callback(null, 1); };`;
  const { json } = await call(t, source);
  assert.deepEqual([json.kind, json.type, json.message], ['FunctionError', 'TypeError', 'bad']);
});

test('no event is null and undefined is answered as null', async (t) => {
  const { main } = await load(t, 'exports.handler = (event) => (event === null ? undefined : event);');
  assert.equal((await main.invoke(undefined)).text, 'null');
  assert.equal((await main.invoke(Buffer.from(' {"a" : [1, 2.5e3, "\\u00e9\u20ac\u{1f600}"]} '))).text, '{"a":[1,2500,"é€\u{1f600}"]}');
  for (const value of [true, false, 0, '', 'text', [], {}]) assert.deepEqual((await main.invoke(value)).json, value);
});

test('the context has the members that functions expect', async (t) => {
  const source = `exports.handler = (event, context) => {
    const { getRemainingTimeInMillis, awsRequestId, ...rest } = context;
    const { functionName, functionVersion, memoryLimitInMB, logGroupName, logStreamName, invokedFunctionArn, callbackWaitsForEmptyEventLoop } = context;
    return { functionName, functionVersion, memoryLimitInMB, logGroupName, logStreamName, invokedFunctionArn, callbackWaitsForEmptyEventLoop,
      awsRequestId, left: getRemainingTimeInMillis(), text: JSON.parse(JSON.stringify(context)).awsRequestId };
  };`;
  const { main } = await load(t, source);
  const requestId = Buffer.from('0190f3a2b1c47d5e8f00112233445566', 'hex');
  const { left, logStreamName, ...members } = (await main.invoke(null, { requestId, deadlineMs: Date.now() + 5000 })).json;
  assert.ok(left > 3000 && left <= 5000, `${left}`);
  assert.match(logStreamName, /^\d{4}\/\d\d\/\d\d\/\[3\]0190aaaabbbb7ccc8dddeeeeffff0000$/);
  const id = '0190f3a2-b1c4-7d5e-8f00-112233445566';
  assert.deepEqual(members, {
    functionName: 'hello',
    functionVersion: '3',
    memoryLimitInMB: '256',
    logGroupName: '/impuls/hello',
    invokedFunctionArn: 'arn:aws:lambda:local:000000000000:function:hello:3',
    callbackWaitsForEmptyEventLoop: true,
    awsRequestId: id,
    text: id,
  });
});

test('an event that is not JSON is a bad event', async (t) => {
  const { main } = await load(t, 'exports.handler = () => 1;');
  for (const bytes of [Buffer.from('{nope'), Buffer.from('  '), Buffer.from([0x22, 0xff, 0x22])]) {
    const reply = await main.invoke(bytes);
    assert.equal(reply.kind, KIND.ERROR);
    assert.equal(reply.json.kind, 'BadEvent');
    assert.match(reply.json.message, /^the event is not JSON: /);
  }
  assert.equal((await main.invoke(Buffer.from('"\ufffd"'))).text, '1');
});

test('a thrown error has type, message and a stack without our frames', async (t) => {
  const source = `class PaymentError extends Error {}
    exports.handler = async () => {
      await null;
      throw new PaymentError('no money');
    };`;
  const error = await failure(t, source);
  assert.deepEqual([error.kind, error.type, error.message], ['FunctionError', 'PaymentError', 'no money']);
  assert.match(error.stack, /index\.js:4:13/);
  assert.doesNotMatch(error.stack, /shims/);
  const sync = await failure(t, 'exports.handler = () => { null.x; };');
  assert.equal(sync.type, 'TypeError');
  assert.doesNotMatch(sync.stack, /shims/);
});

test('a cause is part of the stack', async (t) => {
  const error = await failure(t, `exports.handler = () => { throw new Error('outer', { cause: new RangeError('inner') }); };`);
  assert.match(error.stack, /Error: outer[^]*Caused by: RangeError: inner/);
  const circular = await failure(t, `exports.handler = () => { const e = new Error('self'); e.cause = e; throw e; };`);
  assert.equal(circular.message, 'self');
});

test('whatever is thrown is described', async (t) => {
  const source = `
    const hostile = new Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 2; }, ownKeys() { throw 3; } });
    const getter = new Error('x');
    for (const key of ['stack', 'message', 'name', 'cause', 'constructor']) Object.defineProperty(getter, key, { get() { throw 4; } });
    const values = [null, undefined, 'text', 5, 5n, Symbol('s'), { code: 7 }, [1], () => 1, Object.create(null), hostile, getter,
      { toString() { throw 5; }, toJSON() { throw 6; } }, Object.assign(new Error('m'), { name: 'Named' }),
      Object.assign(new Error('m'), { message: { a: 1 }, stack: 7 })];
    exports.handler = async (event) => { throw values[event]; };
    exports.sync = (event) => { throw values[event]; };`;
  const expected = [
    ['null', 'null'],
    ['undefined', 'undefined'],
    ['string', 'text'],
    ['number', '5'],
    ['bigint', '5n'],
    ['symbol', 'Symbol(s)'],
    ['Object', '{"code":7}'],
    ['Array', '[1]'],
    ['function', '[Function (anonymous)]'],
    ['Object', '[Object: null prototype] {}'],
    ['Object', '(a value that cannot be shown)'],
    ['Error', ''],
    ['Object', null],
    ['Named', 'm'],
    ['Error', '{"a":1}'],
  ];
  for (const handler of ['index.handler', 'index.sync']) {
    const { main } = await load(t, source, { settings: { handler } });
    for (let i = 0; i < expected.length; i++) {
      const reply = await main.invoke(i);
      assert.equal(reply.kind, KIND.ERROR, `value ${i}: ${reply.text}`);
      assert.equal(reply.json.kind, 'FunctionError');
      assert.equal(reply.json.type, expected[i][0], `value ${i}`);
      if (expected[i][1] !== null) assert.equal(reply.json.message, expected[i][1], `value ${i}`);
    }
  }
});

test('a value that cannot be JSON is a bad response that names its type', async (t) => {
  const source = `class Node { constructor() { this.self = this; } }
    const values = { circular: () => new Node(), bigint: () => 1n, nested: () => ({ a: [1n] }), function: () => () => 1, symbol: () => Symbol(),
      hostile: () => ({ toJSON() { throw new Error('never'); } }), getter: () => ({ get a() { throw null; } }) };
    exports.handler = async (event) => values[event]();`;
  const { main } = await load(t, source);
  for (const [event, pattern] of [
    ['circular', /^the returned value \(Node\) cannot be JSON: Converting circular structure/],
    ['bigint', /^the returned value \(bigint\) cannot be JSON: Do not know how to serialize a BigInt/],
    ['nested', /^the returned value \(Object\) cannot be JSON: .*BigInt/],
    ['function', /^the returned value \(function\) cannot be JSON$/],
    ['symbol', /^the returned value \(symbol\) cannot be JSON$/],
    ['hostile', /^the returned value \(Object\) cannot be JSON: never/],
    ['getter', /^the returned value \(Object\) cannot be JSON: null/],
  ]) {
    const { json } = await main.invoke(event);
    assert.equal(json.kind, 'BadResponse');
    assert.match(json.message, pattern);
  }
});

test('a response of 6 MiB passes and one byte more does not', async (t) => {
  const { main } = await load(t, 'exports.handler = ({ n, letter }) => letter.repeat(n);');
  const limit = 6 * 1024 * 1024;
  const largest = await main.invoke({ n: limit - 2, letter: 'x' });
  assert.equal(largest.text.length, limit);
  const larger = await main.invoke({ n: limit - 1, letter: 'x' });
  assert.equal(larger.json.kind, 'BadResponse');
  assert.equal(larger.json.message, 'the returned value (string) has 6291457 bytes as JSON; at most 6291456 bytes are allowed');
  assert.equal((await main.invoke({ n: limit / 2, letter: 'é' })).json.kind, 'BadResponse');
  assert.equal((await main.invoke({ n: limit / 2 - 1, letter: 'é' })).kind, KIND.RESULT);
});

test('an event of 6 MiB arrives whole', async (t) => {
  const event = 'y'.repeat(6 * 1024 * 1024 - 2);
  const { json } = await call(t, 'exports.handler = (event) => [event.length, event];', { slice: event.slice(0, 10) });
  assert.equal(json[0] ?? null, null);
  const big = await call(t, 'exports.handler = (event) => event.length;', event);
  assert.equal(big.json, event.length);
});

test('lone surrogates survive', async (t) => {
  const { json } = await call(t, `exports.handler = () => ['\\ud800', '\\udc00x'];`);
  assert.deepEqual(json, ['\ud800', '\udc00x']);
});

test('an error outside the handler\'s promise fails the call and ends the process', async (t) => {
  for (const [source, type] of [
    [`setTimeout(() => { throw new TypeError('timer'); });`, 'TypeError'],
    [`Promise.reject(new RangeError('nobody'));`, 'RangeError'],
    [`Promise.reject(null);`, 'null'],
    [`new (require('events'))().emit('error', new SyntaxError('event'));`, 'SyntaxError'],
  ]) {
    const sandbox = await load(t, `exports.handler = (event) => { console.log('before'); setImmediate(() => { ${source} }); return new Promise(() => {}); };`);
    const { json, logs } = await sandbox.main.invoke();
    assert.deepEqual([json.kind, json.type], ['FunctionError', type]);
    assert.deepEqual(logs, [['info', 'before']]);
    assert.equal(await sandbox.exit, 1);
  }
});

test('with several slots such an error fails only its own call', async (t) => {
  const source = `exports.handler = (event) => new Promise((resolve) => { if (event.bad) setTimeout(() => Promise.reject(new Error('mine')), 5); });`;
  const sandbox = await load(t, source, { settings: { concurrency: 8 } });
  for (let i = 0; i < 3; i++) void sandbox.main.invoke({ bad: false });
  const { json } = await sandbox.main.invoke({ bad: true });
  assert.equal(json.message, 'mine');
  assert.equal(await sandbox.exit, 1);
  assert.equal(sandbox.main.frames.filter(({ kind }) => kind === KIND.ERROR).length, 1);
});

test('a function with its own listener keeps the process', async (t) => {
  const source = `const seen = [];
    process.on('unhandledRejection', (reason) => seen.push(reason));
    exports.handler = async () => { Promise.reject('own'); await new Promise(setImmediate); return seen; };`;
  const { main } = await load(t, source);
  assert.deepEqual((await main.invoke()).json, ['own']);
});

test('an error between calls is logged outside and ends the process', async (t) => {
  const sandbox = await load(t, `exports.handler = () => { setTimeout(() => { throw new Error('after'); }, 20); return 1; };`);
  await sandbox.main.invoke();
  assert.equal(await sandbox.exit, 1);
  const [[level, text]] = sandbox.main.logs.get(0);
  assert.equal(level, 'error');
  assert.match(text, /^Error: after/);
});

test('process.exit in the handler ends the process after its logs', async (t) => {
  const source = `process.on('exit', () => console.log('bye'));
    exports.handler = async () => { for (let i = 0; i < 50; i++) console.log('line', i); process.stdout.write('no newline'); process.exit(3); };`;
  const sandbox = await load(t, source);
  void sandbox.main.invoke(null, { id: 9 });
  assert.equal(await sandbox.exit, 3);
  const lines = sandbox.main.logs.get(9).map(([, text]) => text);
  assert.equal(lines.length, 52);
  assert.deepEqual(lines.slice(-3), ['line 49', 'no newline', 'bye'].sort((a, b) => lines.indexOf(a) - lines.indexOf(b)));
});

test('user code that patches built-ins does not break replies', async (t) => {
  const source = `
    JSON.parse = JSON.stringify = () => { throw new Error('patched'); };
    Buffer.prototype.utf8Write = Buffer.prototype.utf8Slice = Buffer.from = Buffer.alloc = Buffer.allocUnsafe = null;
    Array.prototype.push = Array.prototype.slice = Array.prototype.map = undefined;
    Promise.prototype.then = Promise.resolve = undefined;
    String.prototype.slice = String.prototype.endsWith = Function.prototype.call = Function.prototype.apply = undefined;
    Date.now = () => NaN; process.nextTick = process.exit = setTimeout = null;
    exports.handler = async (event, context) => [event, context.awsRequestId.length];`;
  const { main } = await load(t, source);
  for (let i = 0; i < 3; i++) assert.deepEqual((await main.invoke({ i })).json, [{ i }, 36]);
});

test('replies do not wait for what the handler left running', async (t) => {
  const { main } = await load(t, `exports.handler = () => { setTimeout(() => {}, 60000); return 'now'; };`);
  assert.equal((await main.invoke()).json, 'now');
});
