'use strict';
// INIT: finding, loading and checking the user's code.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { KIND, Sandbox, load } = require('./host.js');

const ECHO = 'exports.handler = async (event) => event;';
const supportsDetection = process.features.require_module === true;

/** The first reply of a function made of these files. */
async function firstReply(t, files, settings, event = { n: 1 }) {
  const { main } = await load(t, files, { settings });
  return (await main.invoke(event)).json;
}

async function initError(t, files, settings) {
  const { initReply } = await load(t, files, { settings, mustLoad: false });
  assert.equal(initReply.kind, KIND.INIT_ERR);
  return initReply.json;
}

test('ready names the runtime and its version', async (t) => {
  const { ready } = await Sandbox.start(t);
  assert.deepEqual(ready.json, { runtime: 'node', version: process.versions.node });
});

test('init applies the environment and the working folder', async (t) => {
  const source = 'const top = process.env.COLOR; exports.handler = () => [top, process.env.PATH, process.cwd(), __dirname];';
  const sandbox = await load(t, source, { settings: { environment: { COLOR: 'blue' } } });
  const { json } = await sandbox.main.invoke();
  assert.deepEqual(json, ['blue', '/usr/local/bin:/usr/bin:/bin', sandbox.codeDir, sandbox.codeDir]);
});

test('the file part may have slashes and dots', async (t) => {
  assert.deepEqual(await firstReply(t, { 'src/app.js': ECHO }, { handler: 'src/app.handler' }), { n: 1 });
  assert.deepEqual(await firstReply(t, { 'a.b.js': ECHO }, { handler: 'a.b.handler' }), { n: 1 });
});

test('a handler without a file part is in index or in the only file', async (t) => {
  assert.deepEqual(await firstReply(t, { 'index.js': ECHO, 'other.js': '' }, { handler: 'handler' }), { n: 1 });
  assert.deepEqual(await firstReply(t, { 'app.js': ECHO, 'app.mjs': ECHO }, { handler: 'handler' }), { n: 1 });
  const error = await initError(t, { 'one.js': ECHO, 'two.js': ECHO }, { handler: 'handler' });
  assert.equal(error.kind, 'handler');
  assert.match(error.message, /several modules and no index\.js/);
});

test('modules of the function require one another', async (t) => {
  const files = {
    'index.js': 'const { twice } = require("./lib/twice"); exports.name = "x"; exports.handler = ({ n }) => twice(n);',
    'lib/twice.js': 'exports.twice = (n) => require("../index.js").name + n * 2;',
    'node_modules/dep/index.js': '',
  };
  assert.equal(await firstReply(t, files), 'x2');
});

test('es modules load by extension, by package type and from the sibling .mjs', async (t) => {
  const source = 'import { basename } from "node:path";\nexport const handler = async (event) => [basename(import.meta.url), event];';
  assert.deepEqual(await firstReply(t, { 'index.mjs': source }), ['index.mjs', { n: 1 }]);
  assert.deepEqual(await firstReply(t, { 'index.js': source, 'package.json': '{"type":"module"}' }), ['index.js', { n: 1 }]);
  assert.deepEqual(await firstReply(t, { 'index.js': source, 'index.mjs': source }), ['index.mjs', { n: 1 }]);
});

test('top-level await works', async (t) => {
  const source = 'const value = await new Promise((resolve) => setTimeout(resolve, 5, 42));\nexport const handler = () => value;';
  assert.equal(await firstReply(t, { 'index.js': source, 'index.mjs': source }), 42);
});

test('an es module in a lone .js file loads where node detects it', { skip: !supportsDetection && 'needs detection' }, async (t) => {
  assert.equal(await firstReply(t, { 'index.js': 'export const handler = () => "found";' }), 'found');
});

test('a handler in the default export is found', async (t) => {
  assert.equal(await firstReply(t, { 'index.mjs': 'export default { handler: () => "default" };' }), 'default');
});

test('common js may talk about import and export', async (t) => {
  const source = '// import this\nconst text = `\nexport const no = 1;\n`;\nexports.handler = () => text.length;';
  assert.equal(await firstReply(t, { 'index.js': source, 'index.mjs': source }), 22);
});

test('the top level runs once', async (t) => {
  const source = 'const fs = require("fs"); fs.appendFileSync("count", "x"); const text = "export it"; exports.handler = () => fs.readFileSync("count", "utf8");';
  assert.equal(await firstReply(t, { 'index.js': source, 'index.mjs': source }), 'x');
});

test('scoped code needs no export', async (t) => {
  const scoped = { contract: 'scoped' };
  const sum = 'const handler = (event) => event.a + event.b; // no newline at the end';
  assert.equal(await firstReply(t, { 'index.js': sum }, { ...scoped, handler: 'handler' }, { a: 1, b: 2 }), 3);
  const named = 'async function main(event, context) { return context.functionName; }';
  assert.equal(await firstReply(t, { 'index.js': named }, { ...scoped, handler: 'main' }), 'hello');
  const exported = 'const handler = () => "scope"; exports.handler = () => "export";';
  assert.equal(await firstReply(t, { 'index.js': exported }, scoped), 'export');
  assert.equal(await firstReply(t, { 'index.mjs': 'export default (event) => event.n;' }, scoped), 1);
  assert.equal(await firstReply(t, { 'index.mjs': 'export function handler(event) { return event.n; }' }, scoped), 1);
});

test('the context of scoped code has the members of both runtimes', async (t) => {
  const source = 'function handler(event, context) { const { requestId, invokedAt, memoryLimitMB, timeoutMs } = context; return [requestId === context.awsRequestId, new Date(invokedAt).toISOString() === invokedAt, memoryLimitMB, timeoutMs, Object.keys(JSON.parse(JSON.stringify(context))).includes("invokedAt")]; }';
  const settings = { contract: 'scoped', handler: 'handler', memory_mb: 256, timeout_ms: 1500 };
  assert.deepEqual(await firstReply(t, { 'index.js': source }, settings), [true, true, 256, 1500, true]);
  const plain = 'exports.handler = (event, context) => "requestId" in context || "timeoutMs" in context;';
  assert.equal(await firstReply(t, { 'index.js': plain }, { timeout_ms: 1500 }), false);
});

test('scoped code keeps its line numbers', async (t) => {
  const { main } = await load(t, '\n\nfunction handler() {\n  throw new Error("here");\n}', { settings: { contract: 'scoped' } });
  assert.match((await main.invoke()).json.stack, /index\.js:4:9/);
});

test('a syntax error has its file and line', async (t) => {
  const broken = 'exports.handler = () => {\n  const = 1;\n};\n';
  for (const files of [{ 'index.js': broken }, { 'index.js': broken, 'index.mjs': broken }]) {
    const error = await initError(t, files);
    assert.deepEqual([error.kind, error.type, error.file, error.line], ['syntax', 'SyntaxError', 'index.js', 2]);
    assert.match(error.message, /Unexpected token/);
  }
  const inDependency = await initError(t, { 'index.js': 'require("./lib/x")', 'lib/x.js': '\n\n)' });
  assert.deepEqual([inDependency.kind, inDependency.file, inDependency.line], ['syntax', 'lib/x.js', 3]);
  const inModule = await initError(t, { 'index.mjs': 'export const a = 1;\nexport const = 2;' });
  assert.deepEqual([inModule.kind, inModule.file, inModule.line], ['syntax', 'index.mjs', 2]);
  const parameters = await initError(t, { 'index.js': 'function handler( {' }, { contract: 'scoped' });
  assert.deepEqual([parameters.file, parameters.line, parameters.message], ['index.js', 1, 'Unexpected end of input']);
  const unfinished = await initError(t, { 'index.js': 'function handler() {\n  if (true) {\n' }, { contract: 'scoped' });
  assert.deepEqual([unfinished.kind, unfinished.file, unfinished.line], ['syntax', 'index.js', 2]);
});

test('a syntax error that running code throws is not the code\'s own', async (t) => {
  const error = await initError(t, { 'index.js': 'JSON.parse("{");' });
  assert.deepEqual([error.kind, error.type], ['init', 'SyntaxError']);
});

test('a missing file is named with what was looked for', async (t) => {
  const error = await initError(t, { 'index.js': ECHO }, { handler: 'src/app.handler' });
  assert.equal(error.kind, 'handler');
  assert.match(error.message, /"src\/app\.handler".*looked for src\/app\.js, src\/app\.cjs, src\/app\.mjs/);
});

test('a handler outside the code is refused', async (t) => {
  assert.match((await initError(t, { 'index.js': ECHO }, { handler: '../x.handler' })).message, /outside/);
  assert.match((await initError(t, { 'index.js': ECHO }, { handler: 'index.' })).message, /no function name/);
});

test('a missing handler is answered with what the module exports', async (t) => {
  const error = await initError(t, { 'index.js': 'exports.main = () => 1; exports.limit = 5;' });
  assert.equal(error.kind, 'handler');
  assert.equal(error.message, 'index.js does not export "handler"; it exports main (function), limit (number)');
  const none = await initError(t, { 'index.js': 'const handler = () => 1;' });
  assert.equal(none.message, 'index.js does not export "handler"; it exports nothing');
  const bare = await initError(t, { 'index.js': 'module.exports = () => 1;' });
  assert.equal(bare.message, 'index.js does not export "handler"; it exports only a function without a name');
  const wrong = await initError(t, { 'index.js': 'exports.handler = "text";' });
  assert.equal(wrong.message, '"handler" of index.js is not a function but string; it exports handler (string)');
});

test('an error in the top level has type, message and stack', async (t) => {
  const error = await initError(t, { 'index.js': 'class Odd extends Error {}\n\nthrow new Odd("no luck");' });
  assert.deepEqual([error.kind, error.type, error.message], ['init', 'Odd', 'no luck']);
  assert.match(error.stack, /index\.js:3:7/);
  assert.doesNotMatch(error.stack, /shims/);
  const missing = await initError(t, { 'index.js': 'require("not-there");' });
  assert.equal(missing.kind, 'init');
  assert.match(missing.message, /Cannot find module 'not-there'/);
  const rejected = await initError(t, { 'index.mjs': 'await Promise.reject(null); export const handler = 1;' });
  assert.deepEqual([rejected.kind, rejected.type, rejected.message], ['init', 'null', 'null']);
});

test('an error thrown in the background while loading is an init error', async (t) => {
  const source = 'setTimeout(() => { throw new RangeError("late"); }); await new Promise((r) => setTimeout(r, 5000));';
  const error = await initError(t, { 'index.mjs': source });
  assert.deepEqual([error.kind, error.type, error.message], ['init', 'RangeError', 'late']);
});

test('process.exit in the top level ends the process after its logs', async (t) => {
  const sandbox = await Sandbox.start(t, { files: { 'index.js': 'console.log("leaving"); process.exit(7);' } });
  void sandbox.init();
  assert.equal(await sandbox.exit, 7);
  assert.deepEqual(sandbox.main.logs.get(0), [['info', 'leaving']]);
});

test('the shim is invisible to user code', async (t) => {
  const source = `
    const atStart = { argv: process.argv.slice(1), main: require.main === module, mainFile: require.main.filename,
      cached: Object.keys(require.cache), env: Object.keys(process.env), globals: Object.getOwnPropertyNames(globalThis).length,
      parent: module.parent && module.parent.filename, binding: process.cwd() };
    exports.handler = () => atStart;`;
  const expected = (folder) => ({
    argv: [`${folder}/index.js`],
    main: false,
    mainFile: `${folder}/index.js`,
    cached: [`${folder}/index.js`],
    env: ['PATH', 'HOME', 'LANG', 'TMPDIR'],
    parent: `${folder}/index.js`,
    binding: folder,
  });
  for (const warm of [false, true]) {
    const sandbox = await load(t, source, { warm });
    const { globals, ...seen } = (await sandbox.main.invoke()).json;
    assert.deepEqual(seen, expected(sandbox.codeDir));
    assert.equal(globals, Object.getOwnPropertyNames(globalThis).length + 1); // `awslambda`
  }
});
