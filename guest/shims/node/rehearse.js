'use strict';
// Start-up of a prewarmed sandbox: calls a sample function over a connection whose replies go
// nowhere, on the very path of real calls, so that the first real call finds all code compiled and
// loaded. Afterwards nothing of it is left that user code could see.

const Module = require('module');
const path = require('path');

const INIT = 1, INVOKE = 2;
const CALLS = 8; // enough for V8's inline caches; compilation happens at the first

/** Runs the sample functions one after the other, then continues with `serve`. */
function rehearse(Shim, serve) {
  const before = { cwd: process.cwd(), argv: process.argv, modules: new Set(Object.keys(require.cache)) };
  const samples = [['warm.handler', 1], ['warm.plain', 1], ['warm.failing', 1], ['warm.handler', 2]];
  const next = () => {
    const sample = samples.shift();
    if (sample !== undefined) return runSample(Shim, sample, next);
    // The loader of ES modules starts up at its first use.
    import('data:text/javascript,export const handler = () => null;').then(
      () => finish(before, serve),
      () => finish(before, serve),
    );
  };
  next();
}

function runSample(Shim, [handler, concurrency], next) {
  const shim = new Shim();
  shim.rehearsal = true;
  let replies = 0;
  const connection = shim.accept((bytes) => {
    replies += countReplies(bytes);
    return true;
  }, () => {});
  const init = {
    function_name: 'sample',
    function_version: '1',
    function_id: '00000000-0000-0000-0000-000000000000',
    handler,
    contract: 'module',
    memory_mb: 128,
    concurrency,
    environment: {},
    code_dir: __dirname,
    check: false,
  };
  const batch = [frame(INIT, 0, Buffer.from(JSON.stringify(init)))];
  for (let id = 1; id <= CALLS; id++) batch.push(frame(INVOKE, id, call(id)));
  const bytes = Buffer.concat(batch);
  connection.feed(bytes, bytes.length);
  const wait = () => {
    if (replies < CALLS) return setImmediate(wait);
    shim.storage?.disable(); // or every promise of a function with one slot pays for it
    next();
  };
  wait();
}

function countReplies(bytes) {
  let count = 0;
  for (let at = 0; at + 9 <= bytes.length; at += 4 + bytes.readUInt32LE(at)) {
    if (bytes[at + 4] === 67 || bytes[at + 4] === 68) count++;
  }
  return count;
}

function call(id) {
  const head = Buffer.alloc(24, id);
  head.writeBigUInt64LE(BigInt(Date.now() + 60_000), 16);
  return Buffer.concat([head, Buffer.from(`{"count":${id},"name":"sample","list":[1,2.5,true,null]}`)]);
}

function frame(kind, id, payload) {
  const head = Buffer.alloc(9);
  head.writeUInt32LE(payload.length + 5, 0);
  head[4] = kind;
  head.writeUInt32LE(id, 5);
  return Buffer.concat([head, payload]);
}

function finish(before, serve) {
  process.chdir(before.cwd);
  process.argv = before.argv;
  for (const file of Object.keys(require.cache)) {
    if (!before.modules.has(file) || file.startsWith(__dirname + path.sep)) delete require.cache[file];
  }
  for (const key of Object.keys(Module._pathCache)) {
    if (key.includes(__dirname)) delete Module._pathCache[key];
  }
  collectGarbage();
  serve();
}

/** Leaves the young generation empty, so that no collection falls into the first call. */
function collectGarbage() {
  require('v8').setFlagsFromString('--expose-gc');
  require('vm').runInNewContext('gc')({ type: 'minor' });
  require('v8').setFlagsFromString('--no-expose-gc');
}

module.exports = { rehearse };
