'use strict';
// One accepted connection: cuts what arrives into frames, gathers what leaves into few writes.
// Which frame means what is shim.js' business; how bytes reach the socket is `write`'s.

const { nextTick } = process;
const now = Date.now;
const uncurry = Function.prototype.bind.bind(Function.prototype.call);
const utf8Slice = uncurry(Buffer.prototype.utf8Slice);
const utf8Write = uncurry(Buffer.prototype.utf8Write);
const subarray = uncurry(Uint8Array.prototype.subarray);
const copyInto = uncurry(Uint8Array.prototype.set);
const allocate = Buffer.allocUnsafeSlow;
const byteLength = Buffer.byteLength;
const { max, min } = Math;

const INIT = 1, INVOKE = 2, CANCEL = 3, CONTEXT = 4, CREDIT = 5;
const LOG = 69;
const HEAD = 9; // length, kind, call id
const CALL_HEAD = 24; // request id, deadline
const MAX_FRAME = 8 << 20;
const OUT_BUFFER = 64 << 10;
const KEEP_OUT_BUFFER = 1 << 20; // a larger reply buffer is given back after use
// A sandbox killed in the middle of a synchronous loop never reaches the end of the tick, so the
// first log lines of an invocation are written through; later ones wait at most this long or much.
const EAGER_LINES = 32;
const LOG_DELAY_MS = 5;
const LOG_BATCH = 16 << 10;

/** Its half-read frame and its unsent replies. */
class Connection {
  constructor(shim, write) {
    this.shim = shim;
    this.write = write; // (bytes) => false when the bytes are kept by the system until sent
    this.close = null;
    this.out = allocate(OUT_BUFFER);
    this.used = 0;
    this.scheduled = false;
    this.flushed = 0; // time of the last flush, for log lines
    this.partial = null;
    this.partialUsed = 0;
    this.open = true;
    this.streamed = null; // calls whose output the host takes before their end; see stream.js
    this.streams = null; // their responses
    this.flushLater = () => {
      this.scheduled = false;
      this.flush();
    };
  }

  /** Takes the first n bytes of a buffer that the caller will reuse. */
  feed(buffer, n) {
    let at = this.partial === null ? 0 : this.fill(buffer, n);
    while (n - at >= 4) {
      const length = readU32(buffer, at);
      if (length < 5 || length > MAX_FRAME) return this.violation();
      const end = at + 4 + length;
      if (end > n) break;
      this.frame(buffer, at + 4, end);
      if (!this.open) return;
      at = end;
    }
    if (at < n) this.stash(buffer, at, n);
    // Replies of synchronous handlers go out now, with those of the whole batch.
    if (this.used !== 0 && !this.scheduled) this.flush();
  }

  stash(buffer, at, n) {
    const size = n - at >= 4 ? 4 + readU32(buffer, at) : 4;
    if (size > 4 + MAX_FRAME || (n - at >= 4 && size < HEAD)) return this.violation();
    this.partial = allocate(size);
    copyInto(this.partial, subarray(buffer, at, n));
    this.partialUsed = n - at;
  }

  /** Completes the half-read frame; returns how much of the buffer that took. */
  fill(buffer, n) {
    let at = 0;
    while (this.partial !== null && at < n) {
      const take = min(this.partial.length - this.partialUsed, n - at);
      copyInto(this.partial, subarray(buffer, at, at + take), this.partialUsed);
      this.partialUsed += take;
      at += take;
      if (this.partialUsed < this.partial.length) return at;
      const frame = this.partial;
      this.partial = null;
      if (frame.length === 4) this.stash(frame, 0, 4);
      else this.frame(frame, 4, frame.length);
      if (!this.open) return n;
    }
    return at;
  }

  frame(buffer, at, end) {
    const kind = buffer[at];
    const id = readU32(buffer, at + 1);
    if (kind === INVOKE && end - at >= 5 + CALL_HEAD) this.shim.invoke(this, id, buffer, at + 5, end);
    else if (kind === INIT) this.shim.init(this, utf8Slice(buffer, at + 5, end));
    else if (kind === CONTEXT) this.shim.context(this, id, buffer, at + 5, end);
    else if (kind === CREDIT && end - at === 9) this.shim.credit(this, id, readU32(buffer, at + 5));
    else if (kind === CANCEL) this.shim.cancel(this, id);
    else this.violation();
  }

  /** The host broke the protocol: nothing it sends can be trusted to be in step. */
  violation() {
    this.flush();
    if (this.close !== null) this.close();
  }

  /** Makes room for n more bytes of replies. */
  reserve(n) {
    if (this.used + n <= this.out.length) return;
    const larger = allocate(max(this.out.length * 2, this.used + n));
    copyInto(larger, subarray(this.out, 0, this.used));
    this.out = larger;
  }

  /** Appends a frame; it leaves when the current tick and its promises are done. */
  send(kind, id, text) {
    if (!this.open) return;
    const length = text.length;
    this.reserve(HEAD + (length > OUT_BUFFER ? byteLength(text) : length * 3));
    const out = this.out;
    const at = this.used;
    const size = utf8Write(out, text, at + HEAD);
    writeU32(out, at, size + 5);
    out[at + 4] = kind;
    writeU32(out, at + 5, id);
    this.used = at + HEAD + size;
    this.schedule();
  }

  /** Appends a frame of bytes. */
  sendBytes(kind, id, bytes) {
    if (!this.open) return;
    const size = bytes.length;
    this.reserve(HEAD + size);
    const at = this.used;
    writeU32(this.out, at, size + 5);
    this.out[at + 4] = kind;
    writeU32(this.out, at + 5, id);
    copyInto(this.out, bytes, at + HEAD);
    this.used = at + HEAD + size;
    this.schedule();
  }

  /** Appends a LOG frame and returns the bytes that its text took. */
  log(scope, level, text) {
    if (!this.open) return 0;
    this.reserve(HEAD + 1 + text.length * 3);
    const out = this.out;
    const at = this.used;
    const size = typeof text === 'string' ? utf8Write(out, text, at + HEAD + 1) : text.length;
    if (typeof text !== 'string') copyInto(out, text, at + HEAD + 1);
    writeU32(out, at, size + 6);
    out[at + 4] = LOG;
    writeU32(out, at + 5, scope.id);
    out[at + 9] = level;
    this.used = at + HEAD + 1 + size;
    if (this.shim.exiting || scope.lines++ < EAGER_LINES || this.used > LOG_BATCH || now() - this.flushed > LOG_DELAY_MS) {
      this.flush();
    } else {
      this.schedule();
    }
    return size;
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    // Scheduled among promises this runs when all of them are done: one write for the batch.
    nextTick(this.flushLater);
  }

  flush() {
    const used = this.used;
    if (used === 0 || !this.open) return;
    this.used = 0;
    this.flushed = now();
    if (!this.write(subarray(this.out, 0, used)) || this.out.length > KEEP_OUT_BUFFER) {
      this.out = allocate(OUT_BUFFER);
    }
  }
}

function readU32(b, i) {
  return (b[i] | (b[i + 1] << 8) | (b[i + 2] << 16) | (b[i + 3] << 24)) >>> 0;
}

function writeU32(b, i, v) {
  b[i] = v;
  b[i + 1] = v >>> 8;
  b[i + 2] = v >>> 16;
  b[i + 3] = v >>> 24;
}

module.exports = { Connection, readU32 };
