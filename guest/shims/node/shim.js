'use strict';
// The Node adapter: serves Impuls' guest protocol on the listening Unix socket at descriptor 3 and
// calls the user's handler. It owns invocations and their replies. Frames are in connection.js,
// captured output in output.js, loading of user code in load.js; ../README.md has the protocol.
//
// User code shares this process and may patch any built-in, so everything used after user code
// has run is captured here first. Start-up and the path from INVOKE to RESULT are the product's
// latency: nothing is required before it is needed, and no closure is made per call.

const { Connection, readU32 } = require('./connection.js');

const { parse, stringify } = JSON;
const exit = process.exit.bind(process);
const now = Date.now;
const CapturedDate = Date;
const uncurry = Function.prototype.bind.bind(Function.prototype.call);
const utf8Slice = uncurry(Buffer.prototype.utf8Slice);
const hexSlice = uncurry(Buffer.prototype.hexSlice);
const subarray = uncurry(Uint8Array.prototype.subarray);
const isoString = uncurry(Date.prototype.toISOString);
const slice = uncurry(String.prototype.slice);
const includes = uncurry(String.prototype.includes);
const allocate = Buffer.allocUnsafeSlow;
const byteLength = Buffer.byteLength;

const READY = 64, INIT_OK = 65, INIT_ERR = 66, RESULT = 67, ERROR = 68;
const LISTEN_FD = 3;
const MAX_RESULT = 6 << 20;
const READ_BUFFER = 64 << 10;
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');

/** What the handler gets as its second argument; see AWS' Node.js context object. */
class Context {
  #id;
  #deadline;
  constructor(config, id, deadline) {
    this.functionName = config.name;
    this.functionVersion = config.version;
    this.memoryLimitInMB = config.memory;
    this.invokedFunctionArn = config.arn;
    this.logGroupName = config.logGroup;
    this.logStreamName = config.logStream;
    this.callbackWaitsForEmptyEventLoop = true;
    this.#id = id;
    this.#deadline = deadline;
  }

  get awsRequestId() {
    const i = this.#id;
    if (i.length === 36) return i;
    const id = `${slice(i, 0, 8)}-${slice(i, 8, 12)}-${slice(i, 12, 16)}-${slice(i, 16, 20)}-${slice(i, 20)}`;
    this.#id = id;
    return id;
  }

  /** A getter that returns a bound function, so that destructuring the context works. */
  get getRemainingTimeInMillis() {
    const deadline = this.#deadline;
    return () => Math.max(0, deadline - now());
  }

  toJSON() {
    return { ...this, awsRequestId: this.awsRequestId };
  }
}

/** What handlers of the `scoped` contract get: also the members that NQRust's runtime gave them. */
class ScopedContext extends Context {
  #at = now();
  constructor(config, id, deadline) {
    super(config, id, deadline);
    this.memoryLimitMB = config.memoryMB;
    this.timeoutMs = config.timeoutMs;
  }

  get requestId() {
    return this.awsRequestId;
  }

  get invokedAt() {
    return isoString(new CapturedDate(this.#at));
  }

  toJSON() {
    return { ...super.toJSON(), requestId: this.requestId, invokedAt: this.invokedAt };
  }
}

/** One call from INVOKE until its reply; also the scope that its log lines are counted in. */
class Invocation {
  constructor(shim, connection, id) {
    this.shim = shim;
    this.connection = connection;
    this.id = id;
    this.done = false;
    this.kept = 0; // bytes of log text sent
    this.dropped = 0; // bytes of log text beyond the limit
    this.lines = 0;
    this.partial = null; // output without a newline yet; see output.js
  }

  resolve(value) {
    if (this.done) return;
    let text;
    try {
      text = stringify(value);
    } catch (error) {
      return this.badResponse(`cannot be JSON: ${describe(error).message}`, value);
    }
    if (text === undefined) {
      if (value !== undefined) return this.badResponse('cannot be JSON', value);
      text = 'null';
    }
    const length = text.length;
    if (length * 3 > MAX_RESULT) {
      const size = byteLength(text);
      if (size > MAX_RESULT) {
        return this.badResponse(`has ${size} bytes as JSON; at most ${MAX_RESULT} bytes are allowed`, value);
      }
    }
    this.close();
    this.connection.send(RESULT, this.id, text);
  }

  reject(error) {
    if (this.done) return;
    this.fail('FunctionError', describe(error));
  }

  badResponse(what, value) {
    this.fail('BadResponse', { type: 'BadResponse', message: `the returned value (${typeName(value)}) ${what}` });
  }

  fail(kind, description) {
    this.close();
    this.connection.send(ERROR, this.id, stringify({ kind, ...description }));
  }

  /** After this, whatever the invocation left running logs outside of it. */
  close() {
    if (this.partial !== null || this.dropped !== 0) this.shim.output.finish(this);
    this.done = true;
    this.shim.leave(this);
  }
}

/** The sandbox's state: at most one function is ever loaded into it. */
class Shim {
  constructor() {
    this.connections = new Set();
    this.inFlight = new Set();
    this.phase = 'empty'; // empty, loading, ready, failed
    this.waiting = []; // calls that came before the code was loaded
    this.current = null; // the invocation, when there is one at a time
    this.storage = null; // AsyncLocalStorage otherwise
    this.handler = null;
    this.withCallback = false;
    this.streams = false; // whether the handler streams its responses
    this.config = null;
    this.initConnection = null;
    this.output = null;
    this.rehearsal = false;
    this.exiting = false;
  }

  init(connection, text) {
    if (this.phase !== 'empty') return connection.violation();
    this.phase = 'loading';
    this.initConnection = connection;
    const init = parse(text);
    this.output = output().attach(this);
    if (init.concurrency > 1) this.storage = new (require('async_hooks').AsyncLocalStorage)();
    this.config = settings(init);
    connection.flush();
    loader().load(init, this.rehearsal, (handler) => this.loaded(handler), (failure) => this.broken(failure));
  }

  loaded(handler) {
    if (this.phase !== 'loading') return;
    this.handler = handler;
    this.withCallback = handler.length >= 3;
    this.streams = handler[STREAMING] === 'response';
    if (this.streams) this.call = stream().call;
    else for (const connection of this.connections) connection.streamed = null;
    this.phase = 'ready';
    this.output.flushOutside();
    this.initConnection.send(INIT_OK, 0, '{}');
    const waiting = this.waiting;
    this.waiting = null;
    for (let i = 0; i < waiting.length; i++) {
      const [connection, id, bytes] = waiting[i];
      this.invoke(connection, id, bytes, 0, bytes.length);
    }
  }

  broken(failure) {
    if (this.phase !== 'loading') return;
    this.phase = 'failed';
    this.waiting = null;
    this.output.flushOutside();
    this.initConnection.send(INIT_ERR, 0, stringify(failure));
  }

  invoke(connection, id, buffer, at, end) {
    if (this.phase !== 'ready') {
      if (this.phase === 'failed') return; // INIT_ERR has said it
      if (this.phase === 'empty') return connection.violation();
      this.waiting.push([connection, id, Buffer.from(subarray(buffer, at, end))]);
      return;
    }
    const invocation = new Invocation(this, connection, id);
    let event = null;
    if (end - at > 24) {
      const text = utf8Slice(buffer, at + 24, end);
      try {
        event = parse(text);
      } catch (error) {
        return invocation.fail('BadEvent', { type: 'BadEvent', message: `the event is not JSON: ${error.message}` });
      }
      if (includes(text, '\ufffd') && !require('buffer').isUtf8(subarray(buffer, at + 24, end))) {
        return invocation.fail('BadEvent', { type: 'BadEvent', message: 'the event is not JSON: it is not UTF-8' });
      }
    }
    const deadline = readU32(buffer, at + 16) + readU32(buffer, at + 20) * 0x100000000;
    const { config } = this;
    const context = new config.Context(config, hexSlice(buffer, at, at + 16), deadline);
    this.inFlight.add(invocation);
    if (this.storage === null) {
      this.current = invocation;
      this.call(invocation, event, context);
    } else {
      this.storage.run(invocation, callIn, this, invocation, event, context);
    }
  }

  call(invocation, event, context) {
    let value;
    try {
      if (this.withCallback) return this.callWithCallback(invocation, event, context);
      const { handler } = this;
      value = handler(event, context);
    } catch (error) {
      return invocation.reject(error);
    }
    if (value !== null && (typeof value === 'object' || typeof value === 'function')) settle(invocation, value);
    else invocation.resolve(value);
  }

  callWithCallback(invocation, event, context) {
    const { handler } = this;
    const value = handler(event, context, (error, result) => {
      if (error !== null && error !== undefined) invocation.reject(error);
      else invocation.resolve(result);
    });
    if (value !== null && typeof value === 'object' && typeof value.then === 'function') settle(invocation, value);
  }

  /** What else is known of a call: whether the host takes its output before its end. */
  context(connection, id, buffer, at, end) {
    if (this.phase === 'ready' && !this.streams) return;
    let streams = false;
    try {
      streams = parse(utf8Slice(buffer, at, end)).stream === true;
    } catch {
      return; // what is not understood may be ignored
    }
    if (streams) (connection.streamed ??= new Set()).add(id);
  }

  credit(connection, id, bytes) {
    const found = connection.streams === null ? undefined : connection.streams.get(id);
    if (found !== undefined) stream().credit(found, bytes);
  }

  cancel(connection, id) {
    const found = connection.streams === null ? undefined : connection.streams.get(id);
    if (found !== undefined) stream().cancel(found);
  }

  leave(invocation) {
    this.inFlight.delete(invocation);
    if (this.current === invocation) this.current = null;
  }

  /** The invocation that running code belongs to, or null. */
  scope() {
    const found = this.storage === null ? this.current : this.storage.getStore();
    return found === undefined || found === null || found.done ? null : found;
  }

  /** Where lines go that belong to no invocation. */
  outsideConnection() {
    if (this.initConnection !== null && this.initConnection.open) return this.initConnection;
    for (const connection of this.connections) return connection;
    return null;
  }

  flush() {
    for (const connection of this.connections) connection.flush();
  }

  /** An error that no handler's promise carries: its state is unknown, so the process ends. */
  crash(error) {
    const failure = describe(error);
    if (this.phase === 'loading') return this.broken({ kind: 'init', ...failure });
    const scope = this.scope();
    if (scope !== null) {
      scope.fail('FunctionError', failure);
    } else if (this.inFlight.size > 0) {
      for (const invocation of this.inFlight) invocation.fail('FunctionError', failure);
    } else if (this.output !== null) {
      this.output.line(5, failure.stack || `${failure.type}: ${failure.message}`);
    }
    this.flush();
    exit(1);
  }

  accept(write, close) {
    const connection = new Connection(this, write);
    connection.close = close;
    this.connections.add(connection);
    return connection;
  }

  /** Apart from `accept`, because the host may have hung up already, which closes the connection at once. */
  greet(connection) {
    connection.send(READY, 0, `{"runtime":"node","version":"${process.versions.node}"}`);
    connection.flush();
  }

  closed(connection) {
    connection.open = false;
    this.connections.delete(connection);
    if (this.connections.size === 0) exit(0); // the host is gone
  }
}

function callIn(shim, invocation, event, context) {
  shim.call(invocation, event, context);
}

/** `await` instead of `then`: it needs no closure and cannot be patched for native promises. */
async function settle(invocation, promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return invocation.reject(error);
  }
  invocation.resolve(value);
}

function settings(init) {
  const name = String(init.function_name);
  const version = String(init.function_version);
  const suffix = version === '$LATEST' ? '' : `:${version}`;
  const day = new Date().toISOString().slice(0, 10).split('-').join('/');
  return {
    name,
    version,
    Context: init.contract === 'scoped' ? ScopedContext : Context,
    memory: String(init.memory_mb),
    memoryMB: init.memory_mb,
    timeoutMs: init.timeout_ms,
    arn: `arn:aws:lambda:local:000000000000:function:${name}${suffix}`,
    logGroup: `/impuls/${name}`,
    logStream: `${day}/[${version}]${String(init.function_id).split('-').join('')}`,
  };
}

function describe(error) {
  return loader().describe(error);
}

function typeName(value) {
  return loader().typeName(value);
}

let loadModule = null;
function loader() {
  return (loadModule ??= require('./load.js'));
}

let streamModule = null;
function stream() {
  if (streamModule === null) {
    streamModule = require('./stream.js');
    delete require.cache[`${__dirname}/stream.js`]; // it shows the user's modules only
  }
  return streamModule;
}

/** AWS' global with the means to stream, loaded at its first use. */
function installAwsLambda() {
  const define = (value) =>
    Object.defineProperty(globalThis, 'awslambda', { configurable: true, writable: true, enumerable: false, value });
  const get = () => {
    define(stream().awslambda);
    return stream().awslambda;
  };
  Object.defineProperty(globalThis, 'awslambda', { configurable: true, enumerable: false, get, set: define });
}

let outputModule = null;
function output() {
  return (outputModule ??= require('./output.js'));
}

/**
 * Accepts on the raw handles that `net` wraps: `net` alone costs 3 ms at start-up, and its streams
 * a buffer per read. The shape of these handles has not changed from Node 18 to 24.
 */
function listen(shim) {
  const { Pipe, constants } = process.binding('pipe_wrap');
  const { WriteWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } = process.binding('stream_wrap');
  const server = new Pipe(constants.SERVER);
  server.onconnection = (status, handle) => {
    if (status !== 0) return;
    const buffer = allocate(READ_BUFFER);
    let request = new WriteWrap();
    const write = (bytes) => {
      const status = handle.writeBuffer(request, bytes);
      if (status !== 0) return shut();
      if (streamBaseState[kLastWriteWasAsync] === 0) return true;
      request.oncomplete = (status) => status < 0 && shut();
      request.handle = handle;
      request.kept = bytes;
      request = new WriteWrap();
      return false;
    };
    const shut = () => {
      if (!connection.open) return true;
      handle.close();
      shim.closed(connection);
      return true;
    };
    handle.onread = () => {
      const n = streamBaseState[kReadBytesOrError];
      if (n > 0) connection.feed(buffer, n);
      else if (n < 0) shut();
    };
    const connection = shim.accept(write, shut);
    connection.block = () => handle.setBlocking(true);
    handle.useUserBuffer(buffer);
    shim.greet(connection);
    if (connection.open) handle.readStart();
  };
  const status = server.open(LISTEN_FD) || server.listen(511);
  if (status) throw new Error(`cannot listen on descriptor ${LISTEN_FD}: error ${status}`);
  shim.server = server; // or the handle is collected
}

/** The same over public interfaces, for a Node that has no `process.binding`. */
function listenWithNet(shim) {
  const server = require('net').createServer((socket) => {
    const shut = () => {
      socket.destroy();
      if (connection.open) shim.closed(connection);
    };
    const connection = shim.accept((bytes) => {
      socket.write(bytes);
      return false;
    }, shut);
    socket.on('data', (bytes) => connection.feed(bytes, bytes.length));
    socket.on('close', shut);
    socket.on('error', () => {});
    shim.greet(connection);
  });
  server.listen({ fd: LISTEN_FD });
}

/** The last output before the process ends, also when user code calls `process.exit`. */
function atExit(shim) {
  shim.exiting = true; // there is no later for what other listeners print
  for (const connection of shim.connections) if (connection.block) connection.block();
  if (shim.output !== null) shim.output.finishAll();
  shim.flush();
}

function serve() {
  const shim = new Shim();
  // A function that installs its own listener has taken the decision over.
  process.on('uncaughtException', (error) => {
    if (process.listenerCount('uncaughtException') === 1) shim.crash(error);
  });
  process.on('unhandledRejection', (reason) => {
    if (process.listenerCount('unhandledRejection') === 1) shim.crash(reason);
  });
  process.on('exit', () => atExit(shim));
  process.mainModule = undefined;
  installAwsLambda();
  (typeof process.binding === 'function' ? listen : listenWithNet)(shim);
}

if (process.argv.includes('--warm')) require('./rehearse.js').rehearse(Shim, serve);
else serve();
