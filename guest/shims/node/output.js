'use strict';
// Makes LOG frames of everything that user code prints: the console's methods, process.stdout and
// process.stderr. A line belongs to the invocation whose code printed it, else to none (id 0).
// What leaves at once and what waits is decided in shim.js; descriptors 1 and 2 stay untouched.

const { nextTick } = process;
const now = Date.now;
const later = setTimeout;
const { byteLength, from: bufferFrom, allocUnsafe } = Buffer;
const { min } = Math;

const STDOUT = 0, STDERR = 1, DEBUG = 2, INFO = 3, WARN = 4, FAULT = 5, CUT = 6;
const LIMIT = 1 << 20; // bytes of text per invocation, a newline counted for each line
const OUTSIDE_WINDOW_MS = 1000; // the same limit holds for this long outside of invocations
const LEVELS = {
  log: INFO, info: INFO, dir: INFO, dirxml: INFO, table: INFO, group: INFO, groupCollapsed: INFO, groupEnd: INFO,
  count: INFO, countReset: INFO, time: INFO, timeEnd: INFO, timeLog: INFO, clear: INFO,
  debug: DEBUG, trace: DEBUG, warn: WARN, error: FAULT, assert: FAULT,
};

let shim = null;

/** What is printed outside of any invocation. Its limit starts anew every second. */
const outside = { id: 0, connection: null, kept: 0, dropped: 0, lines: 0, partial: null, since: 0, reporting: false };

/** Sends one or more whole lines without their last newline, as far as the limit allows. */
function emit(scope, level, text) {
  if (scope === outside && !enterOutside()) return;
  const room = LIMIT - scope.kept - 1;
  let total = text.length;
  if (total * 3 > room) {
    total = byteLength(text);
    if (total > room) return emitCut(scope, level, text, room, total);
  }
  scope.kept += scope.connection.log(scope, level, text) + 1;
}

function emitCut(scope, level, text, room, total) {
  if (room <= 0) {
    scope.dropped += total + 1;
    return;
  }
  const bytes = bufferFrom(text.slice(0, room));
  let end = min(room, bytes.length);
  while (end > 0 && end < bytes.length && (bytes[end] & 0xc0) === 0x80) end--; // whole characters
  scope.connection.log(scope, level, bytes.subarray(0, end));
  scope.kept = LIMIT;
  scope.dropped += total - end;
}

function enterOutside() {
  outside.connection = shim.outsideConnection();
  if (outside.connection === null) return false;
  const time = now();
  if (time - outside.since >= OUTSIDE_WINDOW_MS) {
    reportCut(outside);
    outside.since = time;
    outside.kept = 0;
    outside.lines = 0;
  } else if (outside.dropped > 0 && !outside.reporting) {
    outside.reporting = true;
    later(() => {
      outside.reporting = false;
      reportCut(outside);
    }, OUTSIDE_WINDOW_MS).unref();
  }
  return true;
}

function reportCut(scope) {
  if (scope.dropped === 0 || scope.connection === null) return;
  const count = allocUnsafe(8);
  count.writeBigUInt64LE(BigInt(scope.dropped));
  scope.dropped = 0;
  scope.connection.log(scope, CUT, count);
}

/** Takes output that need not end in a newline; the rest of the line waits for it. */
function write(level, chunk) {
  const scope = shim.scope() ?? outside;
  let partial = scope.partial;
  if (partial === null && typeof chunk === 'string' && chunk.endsWith('\n')) {
    return emit(scope, level, chunk.slice(0, -1));
  }
  partial ??= scope.partial = { text: ['', ''], decoder: [null, null] };
  if (typeof chunk !== 'string') {
    partial.decoder[level] ??= new (require('string_decoder').StringDecoder)('utf8');
    chunk = partial.decoder[level].write(chunk);
  }
  const end = chunk.lastIndexOf('\n');
  if (end >= 0) {
    emit(scope, level, partial.text[level] + chunk.slice(0, end));
    partial.text[level] = '';
    chunk = chunk.slice(end + 1);
  }
  if (partial.text[level].length + chunk.length <= LIMIT) {
    partial.text[level] += chunk;
  } else {
    // Longer than can be kept: the limit cuts the line, and counts what follows.
    emit(scope, level, partial.text[level] + chunk);
    partial.text[level] = '';
  }
}

/** Ends a scope's output: lines without a newline, then the count of what was dropped. */
function finish(scope) {
  const partial = scope.partial;
  if (partial !== null) {
    scope.partial = null;
    for (let level = STDOUT; level <= STDERR; level++) {
      const decoder = partial.decoder[level];
      const text = decoder === null ? partial.text[level] : partial.text[level] + decoder.end();
      if (text !== '') emit(scope, level, text);
    }
  }
  reportCut(scope);
}

function finishAll() {
  for (const invocation of shim.inFlight) finish(invocation);
  finish(outside);
}

/**
 * The console's own formatting (groups, tables, timers) in front of our levels. Its formatter is
 * made at the first call: that costs a millisecond.
 */
function installConsole() {
  const { Console } = console;
  let level = -1; // the outermost method decides: `trace` calls `error`
  const sink = (fallback) => ({
    write(text) {
      const found = level < 0 ? fallback : level;
      emit(shim.scope() ?? outside, found, text.endsWith('\n') ? text.slice(0, -1) : text);
      return true;
    },
  });
  let own = null;
  for (const [name, wanted] of Object.entries(LEVELS)) {
    console[name] = named(name, (...args) => {
      own ??= new Console({ stdout: sink(INFO), stderr: sink(FAULT), ignoreErrors: false });
      if (level >= 0) return own[name](...args);
      level = wanted;
      try {
        return own[name](...args);
      } finally {
        level = -1;
      }
    });
  }
}

function named(name, method) {
  Object.defineProperty(method, 'name', { value: name, configurable: true });
  return method;
}

/** process.stdout and process.stderr, made when first used: streams cost 2 ms to load. */
function installStream(name, level) {
  let stream = null;
  Object.defineProperty(process, name, {
    configurable: true,
    enumerable: true,
    get: () => (stream ??= logStream(level)),
    set: (value) => {
      stream = value;
    },
  });
}

function logStream(level) {
  const { Writable } = require('stream');
  class LogStream extends Writable {
    write(chunk, encoding, callback) {
      if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding];
      const text = typeof chunk === 'string';
      if (!text && !(chunk instanceof Uint8Array)) return super.write(chunk, encoding, callback); // throws
      const plain = text && (encoding === undefined || encoding === null || /^utf-?8$/i.test(encoding));
      write(level, plain || !text ? chunk : bufferFrom(chunk, encoding));
      if (typeof callback === 'function') nextTick(callback, null);
      return true;
    }

    /** Like Node's own: the end of one invocation must not end the next one's output. */
    end(chunk, encoding, callback) {
      const done = [chunk, encoding, callback].find((value) => typeof value === 'function');
      if (chunk !== undefined && chunk !== null && chunk !== done) this.write(chunk, encoding);
      if (done !== undefined) nextTick(done);
      return this;
    }

    destroy() {
      return this;
    }
  }
  const stream = new LogStream();
  stream.fd = level === STDOUT ? 1 : 2;
  stream._type = 'pipe';
  return stream;
}

let installed = false;

/** Sends all later output to this shim's connections. */
function attach(owner) {
  shim = owner;
  outside.connection = null;
  outside.kept = outside.dropped = outside.lines = outside.since = 0;
  outside.partial = null;
  if (!installed) {
    installed = true;
    installConsole();
    installStream('stdout', STDOUT);
    installStream('stderr', STDERR);
  }
  return { finish, finishAll, flushOutside: () => finish(outside), line: (level, text) => emit(outside, level, text) };
}

module.exports = { attach };
