'use strict';
// LOG frames: levels, whose line it is, partial lines, and the limit.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { KIND, load } = require('./host.js');

const LIMIT = 1024 * 1024;

async function logsOf(t, body, event) {
  const { main } = await load(t, `exports.handler = async (event) => { ${body} };`);
  const reply = await main.invoke(event);
  assert.equal(reply.kind, KIND.RESULT, reply.text);
  return reply.logs;
}

test('every console method has its level and its format', async (t) => {
  const logs = await logsOf(
    t,
    `console.log('%s is %d', 'n', 5, { a: [1] }); console.info('info'); console.debug('debug'); console.warn('warn'); console.error('error');
     console.log(); console.dir({ b: 2 }); console.group('group'); console.log('inside'); console.groupEnd(); console.log('outside');
     console.assert(false, 'claim'); console.count(); console.log('two\\nlines');`,
  );
  assert.deepEqual(logs, [
    ['info', 'n is 5 { a: [ 1 ] }'],
    ['info', 'info'],
    ['debug', 'debug'],
    ['warn', 'warn'],
    ['error', 'error'],
    ['info', ''],
    ['info', '{ b: 2 }'],
    ['info', 'group'],
    ['info', '  inside'],
    ['info', 'outside'],
    ['error', 'Assertion failed: claim'],
    ['info', 'default: 1'],
    ['info', 'two\nlines'],
  ]);
});

test('console.trace is debug and console.table a table', async (t) => {
  const [trace, table, timer] = await logsOf(
    t,
    `console.trace('here'); console.table([{ a: 1 }]); console.time('t'); console.timeEnd('t');`,
  );
  assert.equal(trace[0], 'debug');
  assert.match(trace[1], /^Trace: here\n +at /);
  assert.equal(table[0], 'info');
  assert.match(table[1], /│ *a *│/);
  assert.match(timer[1], /^t: [\d.]+m?s$/);
});

test('the console stays complete', async (t) => {
  const { main } = await load(t, `exports.handler = () => [Object.keys(console).sort(), require('node:console') === console, typeof console.Console];`);
  const [keys, same, constructor] = (await main.invoke()).json;
  assert.deepEqual(keys, Object.keys(console).sort());
  assert.equal(same, true);
  assert.equal(constructor, 'function');
});

test('process.stdout and stderr are lines of their own levels', async (t) => {
  const logs = await logsOf(
    t,
    `await new Promise((resolve) => process.stdout.write('out', resolve));
     process.stderr.write('err\\n'); process.stdout.write(' put\\nnext'); process.stdout.write(Buffer.from('é').subarray(0, 1));
     process.stdout.write(Buffer.from('é').subarray(1)); process.stdout.write('7a0a', 'hex'); process.stdout.write(new Uint8Array([0xff, 0x0a]));
     process.stderr.write('no newline'); process.stdout.end('end');
     await require('stream/promises').pipeline(require('stream').Readable.from(['pi', 'ped\\n']), process.stdout, { end: false });`,
  );
  assert.deepEqual(logs, [
    ['stderr', 'err'],
    ['stdout', 'out put'],
    ['stdout', 'nextéz'],
    ['stdout', '\ufffd'],
    ['stdout', 'endpiped'],
    ['stderr', 'no newline'],
  ]);
});

test('lines precede the reply in the order they were written', async (t) => {
  const { main } = await load(t, `exports.handler = async (n) => { for (let i = 0; i < n; i++) console.log(i); await null; console.log('last'); return 'value'; };`);
  const reply = await main.invoke(500);
  assert.equal(reply.json, 'value');
  assert.deepEqual(reply.logs.map(([, text]) => text), [...Array(500).keys()].map(String).concat('last'));
  const kinds = main.frames.map(({ kind }) => kind);
  assert.equal(kinds.indexOf(KIND.RESULT), kinds.length - 1);
});

test('lines of the top level belong to no call', async (t) => {
  const { main } = await load(t, `console.log('top'); process.stdout.write('partial'); exports.handler = () => { console.log('in'); };`);
  assert.deepEqual(main.logs.get(0), [['info', 'top'], ['stdout', 'partial']]);
  assert.deepEqual((await main.invoke()).logs, [['info', 'in']]);
});

test('lines printed after the reply belong to no call', async (t) => {
  for (const concurrency of [1, 4]) {
    const { main } = await load(t, `exports.handler = () => { setTimeout(() => console.log('late'), 10); };`, { settings: { concurrency } });
    assert.deepEqual((await main.invoke()).logs, []);
    assert.deepEqual(await main.outside(1), [['info', 'late']]);
  }
});

test('lines before an endless loop are not lost', async (t) => {
  const { main } = await load(t, `exports.handler = () => { console.log('start'); process.stdout.write('second\\n'); for (;;); };`);
  void main.invoke(null, { id: 5 });
  while ((main.logs.get(5) ?? []).length < 2) await main.expect('log');
  assert.deepEqual(main.logs.get(5), [['info', 'start'], ['stdout', 'second']]);
});

test('lines of calls at once stay apart', async (t) => {
  const source = `const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    exports.handler = async (n) => {
      console.log('start', n);
      process.stdout.write('part ' + n);
      await wait(n % 7);
      console.warn('middle', n);
      process.stdout.write(' rest ' + n + '\\n');
      await new Promise((resolve) => setImmediate(() => { console.error('timer', n); resolve(); }));
      await Promise.all([1, 2].map(async (i) => { await wait(i * 15); console.debug('child', n, i); }));
      process.stderr.write('open ' + n);
      return n;
    };`;
  const { main } = await load(t, source, { settings: { concurrency: 64 } });
  const replies = await Promise.all([...Array(64).keys()].map((n) => main.invoke(n)));
  replies.forEach((reply, n) => {
    assert.equal(reply.json, n);
    assert.deepEqual(reply.logs, [
      ['info', `start ${n}`],
      ['warn', `middle ${n}`],
      ['stdout', `part ${n} rest ${n}`],
      ['error', `timer ${n}`],
      ['debug', `child ${n} 1`],
      ['debug', `child ${n} 2`],
      ['stderr', `open ${n}`],
    ]);
  });
});

test('a line of 5 MB is cut at the limit and the rest counted', async (t) => {
  for (const body of [`console.log('x'.repeat(event));`, `process.stdout.write('x'.repeat(event) + '\\n');`, `for (let i = 0; i < 5; i++) process.stdout.write('x'.repeat(event / 5));`]) {
    const logs = await logsOf(t, body, 5_000_000);
    assert.deepEqual(logs.map(([level]) => level).sort(), ['cut', logs[0][0]].sort());
    assert.equal(logs[0][1].length, LIMIT - 1);
    assert.equal(logs[1][0], 'cut');
    assert.ok(Math.abs(logs[1][1] - (5_000_000 - LIMIT)) < 10, `${logs[1][1]}`);
  }
});

test('a cut line ends in a whole character', async (t) => {
  const [[, text]] = await logsOf(t, `console.log('a' + '\u20ac'.repeat(1_000_000));`);
  assert.match(text, /^a\u20ac+$/);
  assert.ok(Buffer.byteLength(text) > LIMIT - 5);
});

test('100 MB of output neither stall nor grow the process', async (t) => {
  const source = `exports.handler = () => {
    const line = 'z'.repeat(999);
    for (let i = 0; i < 50_000; i++) { console.log(line); process.stdout.write(line + '\\n'); }
    return process.memoryUsage().rss;
  };`;
  const { main } = await load(t, source);
  const started = Date.now();
  const { json, logs } = await main.invoke();
  assert.ok(Date.now() - started < 10_000);
  assert.ok(json < 200e6, `${json}`);
  const kept = logs.filter(([level]) => level !== 'cut');
  const size = kept.reduce((sum, [, text]) => sum + text.length + 1, 0);
  assert.ok(size <= LIMIT && size > LIMIT - 2000);
  assert.deepEqual(logs.slice(-1), [['cut', 100_000_000 - size]]);
});

test('the limit is per call', async (t) => {
  const { main } = await load(t, `exports.handler = (n) => { console.log('x'.repeat(n)); };`);
  assert.equal((await main.invoke(2 * LIMIT)).logs.length, 2);
  assert.deepEqual((await main.invoke(2)).logs, [['info', 'xx']]);
});

test('output outside of calls is limited per second', async (t) => {
  const { main } = await load(t, `exports.handler = () => { setTimeout(() => { for (let i = 0; i < 3000; i++) console.log('x'.repeat(999)); }, 1); };`);
  await main.invoke();
  while (!(main.logs.get(0) ?? []).some(([level]) => level === 'cut')) await main.expect('log');
  const kept = main.logs.get(0).filter(([level]) => level !== 'cut').reduce((sum, [, text]) => sum + text.length + 1, 0);
  assert.ok(kept <= LIMIT && kept > LIMIT - 1001);
  assert.equal(main.logs.get(0).at(-1)[1], 3_000_000 - kept);
});

test('lone surrogates in output become replacement characters', async (t) => {
  assert.deepEqual(await logsOf(t, `console.log('a\\ud800b'); process.stdout.write('\\udc00\\n');`), [
    ['info', 'a\ufffdb'],
    ['stdout', '\ufffd'],
  ]);
});
