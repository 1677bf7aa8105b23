'use strict';
// Loads the user's module once and finds the handler in it, by the rules of the `module` and
// `scoped` contracts, and says in words what is wrong when that fails.

const fs = require('fs');
const path = require('path');
const Module = require('module');
const { describe, typeName } = require('./describe.js');

const EXTENSIONS = ['.js', '.cjs', '.mjs'];
// Cheap to test, and true for every ES module that has something to export.
const MAY_BE_ES_MODULE = /\b(?:import|export)\b/;
// How V8 refuses a script that is an ES module; any other error is the code's own.
const ES_MODULE_SYNTAX = /import statement|import declaration|import\.meta|token 'export'|await is only valid/;
// Spliced into code, so nothing but a name may pass; the class of all letters takes 1 ms to build.
const IDENTIFIER = /^[A-Za-z_$\u0080-\uffff][\w$\u0080-\uffff]*$/;
const PLACE = /^(file:\/\/)?(\/.*?):(\d+)\r?\n/;
const CHECK_TIMEOUT_MS = 5000;
const MAX_LISTED = 20;

/** A handler string that leads nowhere; its message is shown to the user as it is. */
class HandlerError extends Error {}

/** Applies INIT's settings, loads the code, and calls exactly one of `loaded` and `broken`. */
function load(init, rehearsal, loaded, broken) {
  const fail = (error) => broken(explain(error, init.code_dir));
  try {
    prepareProcess(init);
    const { file, name } = locate(init);
    const main = mainModule(file);
    if (!rehearsal) {
      process.argv = [process.execPath, file];
      process.mainModule = main;
    }
    const found = loadFile(main, name, init);
    if (found instanceof Promise) found.then((exports) => loaded(pick(exports, name, init, file))).catch(fail);
    else loaded(pick(found.exports, name, init, file, found.scoped));
  } catch (error) {
    fail(error);
  }
}

function prepareProcess(init) {
  for (const [key, value] of Object.entries(init.environment ?? {})) process.env[key] = value;
  process.chdir(init.code_dir);
  // Left by the build of TypeScript that had to be rewritten; reading maps costs every module that is loaded.
  if (isFile(path.join(init.code_dir, '.impuls-source-maps'))) process.setSourceMapsEnabled(true);
}

/** Splits the handler string at its last dot and finds the file. */
function locate(init) {
  const handler = String(init.handler);
  const dot = handler.lastIndexOf('.');
  const part = dot < 0 ? '' : handler.slice(0, dot);
  const name = handler.slice(dot + 1);
  if (name === '' || dot === 0) throw new HandlerError(`handler "${handler}" has no function name; write it as file.function`);
  const stem = part === '' ? defaultStem(init.code_dir, handler) : part;
  const base = path.resolve(init.code_dir, stem);
  if (!base.startsWith(path.join(init.code_dir, path.sep))) {
    throw new HandlerError(`handler "${handler}" points outside the function's code`);
  }
  for (const extension of EXTENSIONS) {
    if (isFile(base + extension)) return { file: base + extension, name };
  }
  const wanted = EXTENSIONS.map((extension) => stem + extension).join(', ');
  throw new HandlerError(`handler "${handler}" names a file that does not exist; looked for ${wanted}`);
}

/** The file of a handler without a file part: `index`, or the only module at the top. */
function defaultStem(codeDir, handler) {
  if (EXTENSIONS.some((extension) => isFile(path.join(codeDir, `index${extension}`)))) return 'index';
  const stems = new Set();
  for (const entry of fs.readdirSync(codeDir)) {
    if (EXTENSIONS.includes(path.extname(entry))) stems.add(path.basename(entry, path.extname(entry)));
  }
  if (stems.size === 1) return [...stems][0];
  throw new HandlerError(
    `handler "${handler}" names no file, and the code has ${stems.size === 0 ? 'no' : 'several'} modules and no index.js; write it as file.function`,
  );
}

function isFile(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() === true;
}

/**
 * What `require.main` shows: it names the user's file and resolves from there, but is not that
 * module, so that `if (require.main === module)` does not start the file as a program.
 */
function mainModule(file) {
  const main = new Module(file, null);
  main.filename = file;
  main.paths = Module._nodeModulePaths(path.dirname(file));
  return main;
}

/** `{exports, scoped}` of a CommonJS file, or a promise of the exports of an ES module. */
function loadFile(main, name, init) {
  const file = main.filename;
  if (file.endsWith('.mjs')) return importFile(file);
  const source = fs.readFileSync(file, 'utf8');
  if (file.endsWith('.js') && MAY_BE_ES_MODULE.test(source)) {
    if (packageType(file, init.code_dir) === 'module') return importFile(file);
    if (isEsModule(source, file)) {
      const sibling = file.replace(/js$/, 'mjs');
      return importFile(isFile(sibling) ? sibling : file);
    }
  }
  return runCommonJs(main, source, init.contract === 'scoped' ? name : null);
}

/** Parses without running: the top level must never run twice. */
function isEsModule(source, file) {
  try {
    parse(source, file);
    return false;
  } catch (error) {
    return ES_MODULE_SYNTAX.test(error.message);
  }
}

let imported = null; // the ES module to look at when it does not parse

function importFile(file) {
  imported = file;
  return import(require('url').pathToFileURL(file).href);
}

/**
 * What `require` does once it has found the file, without the search: that takes longer than the
 * rest. For the scoped contract it reaches for the function that is defined but not exported.
 */
function runCommonJs(main, source, scopedName) {
  const file = main.filename;
  const module = new Module(file, main);
  module.filename = file;
  module.paths = main.paths;
  Module._cache[file] = module;
  if (source.charCodeAt(0) === 0xfeff) source = source.slice(1);
  if (scopedName === null || !IDENTIFIER.test(scopedName)) {
    module._compile(source, file);
    module.loaded = true;
    return { exports: module.exports };
  }
  let scoped;
  const key = 'impuls.scoped';
  globalThis[Symbol.for(key)] = (value) => {
    scoped = value;
  };
  try {
    // On a line of its own, as the source may end in a comment; the user's line numbers stay true.
    module._compile(`${source}\n;globalThis[Symbol.for('${key}')](typeof ${scopedName} === 'undefined' ? undefined : ${scopedName});`, file);
  } catch (error) {
    throw error instanceof SyntaxError ? (syntaxError(source, file) ?? error) : error;
  } finally {
    delete globalThis[Symbol.for(key)];
  }
  module.loaded = true;
  return { exports: module.exports, scoped };
}

/** What V8 says of the user's own text, which does not have what `scoped` appends; null if it parses. */
function syntaxError(source, file) {
  try {
    parse(source, file);
    return null;
  } catch (error) {
    return error;
  }
}

function parse(source, file) {
  require('vm').compileFunction(source, ['exports', 'require', 'module', '__filename', '__dirname'], { filename: file });
}

/** The `type` of the nearest package.json, not looking above the code. */
function packageType(file, codeDir) {
  for (let folder = path.dirname(file); folder.startsWith(codeDir); folder = path.dirname(folder)) {
    const manifest = path.join(folder, 'package.json');
    if (isFile(manifest)) {
      try {
        return JSON.parse(fs.readFileSync(manifest, 'utf8'))?.type;
      } catch {
        return undefined; // Node reports it better when it loads the file
      }
    }
    if (folder === path.dirname(folder)) break;
  }
  return undefined;
}

/** The handler among a module's exports. */
function pick(exports, name, init, file, scoped) {
  const candidates = [member(exports, name), member(member(exports, 'default'), name), scoped];
  if (init.contract === 'scoped') candidates.push(member(exports, 'default'), exports);
  for (const candidate of candidates) if (typeof candidate === 'function') return candidate;
  const relative = path.relative(init.code_dir, file);
  const present = candidates.find((candidate) => candidate !== undefined && candidate !== exports);
  const problem =
    present === undefined
      ? `${relative} does not ${init.contract === 'scoped' ? 'define' : 'export'} "${name}"`
      : `"${name}" of ${relative} is not a function but ${typeName(present)}`;
  throw new HandlerError(`${problem}; it exports ${list(exports)}`);
}

function member(value, key) {
  return value === null || value === undefined ? undefined : value[key];
}

function list(exports) {
  const isObject = exports !== null && (typeof exports === 'object' || typeof exports === 'function');
  const names = isObject ? Object.keys(exports) : [];
  if (names.length === 0) return typeof exports === 'function' ? 'only a function without a name' : 'nothing';
  const shown = names.slice(0, MAX_LISTED).map((key) => `${key} (${typeName(exports[key])})`);
  return shown.join(', ') + (names.length > MAX_LISTED ? ` and ${names.length - MAX_LISTED} more` : '');
}

/** The INIT_ERR payload for whatever loading ran into. */
function explain(error, codeDir) {
  if (error instanceof HandlerError) return { kind: 'handler', type: 'HandlerError', message: error.message };
  const description = describe(error);
  const place = syntaxErrorPlace(error, codeDir);
  return place === null ? { kind: 'init', ...description } : { kind: 'syntax', ...description, ...place };
}

/**
 * Where code does not parse: V8 puts `file:line` before the message of such errors only, so a
 * SyntaxError that running code threw (`JSON.parse`) has none.
 */
function syntaxErrorPlace(error, codeDir) {
  let stack;
  try {
    stack = error instanceof SyntaxError ? String(error.stack) : '';
  } catch {
    return null;
  }
  if (/^SyntaxError: .*\n +at (?:compileSourceTextModule|ModuleLoader\.moduleStrategy)/.test(stack)) {
    stack = checkedByNode(imported);
    if (!PLACE.test(stack)) return {};
  }
  const match = PLACE.exec(stack);
  if (match === null) return null;
  const file = match[1] === undefined ? match[2] : require('url').fileURLToPath(`file://${match[2]}`);
  const line = Math.min(Number(match[3]), lineCount(file));
  return { file: file.startsWith(codeDir) ? path.relative(codeDir, file) : file, line };
}

/** Errors of ES modules do not say where they are, except when Node itself prints them. */
function checkedByNode(file) {
  const { spawnSync } = require('child_process');
  const check = spawnSync(process.execPath, ['--check', file], { env: {}, encoding: 'utf8', timeout: CHECK_TIMEOUT_MS });
  return check.stderr ?? '';
}

/** The line that `scoped` appends must not be named. */
function lineCount(file) {
  try {
    const source = fs.readFileSync(file, 'utf8');
    return source.split('\n').length - (source.endsWith('\n') ? 1 : 0) || 1;
  } catch {
    return Infinity;
  }
}

// `require.cache` shows the user's modules only.
for (const name of ['shim.js', 'connection.js', 'output.js', 'load.js', 'describe.js']) delete require.cache[path.join(__dirname, name)];

module.exports = { load, describe, typeName };
