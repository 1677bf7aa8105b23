'use strict';
// A small host for the tests: starts the real shim with a listening socket at descriptor 3 and
// speaks the guest protocol with it.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const SHIM = path.join(__dirname, '..', 'shim.js');
const KIND = { INIT: 1, INVOKE: 2, CANCEL: 3, CONTEXT: 4, CREDIT: 5, READY: 64, INIT_OK: 65, INIT_ERR: 66, RESULT: 67, ERROR: 68, LOG: 69, CHUNK: 70 };
const LEVELS = ['stdout', 'stderr', 'debug', 'info', 'warn', 'error', 'cut'];

function frame(kind, id, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUInt32LE(payload.length + 5, 0);
  head[4] = kind;
  head.writeUInt32LE(id, 5);
  return Buffer.concat([head, payload]);
}

function invokeFrame(id, event, { requestId = Buffer.alloc(16, id & 0xff), deadlineMs = Date.now() + 30_000 } = {}) {
  const deadline = Buffer.alloc(8);
  deadline.writeBigUInt64LE(BigInt(deadlineMs));
  const bytes = event === undefined ? Buffer.alloc(0) : Buffer.isBuffer(event) ? event : Buffer.from(JSON.stringify(event));
  return frame(KIND.INVOKE, id, Buffer.concat([requestId, deadline, bytes]));
}

/** One connection to the shim; sorts its frames into replies and log lines. */
class Connection {
  constructor(socket) {
    this.socket = socket;
    this.frames = []; // all of them, in order
    this.logs = new Map(); // call id -> [[level, text], …]
    this.chunks = new Map(); // call id -> [bytes, …]
    this.waiting = new Map(); // call id, or a name -> resolve
    this.nextId = 1;
    this.rest = [];
    this.size = 0;
    socket.on('data', (bytes) => this.feed(bytes));
    this.closed = new Promise((resolve) => socket.on('close', resolve));
    socket.on('error', () => {});
  }

  feed(bytes) {
    this.rest.push(bytes);
    this.size += bytes.length;
    let data = null;
    for (;;) {
      if (this.size < 9) return;
      if (this.rest[0].length < 9) this.rest = [Buffer.concat(this.rest)];
      const total = 4 + this.rest[0].readUInt32LE(0);
      if (this.size < total) return;
      data = Buffer.concat(this.rest);
      let at = 0;
      while (data.length - at >= 9 && data.length - at >= 4 + data.readUInt32LE(at)) {
        const end = at + 4 + data.readUInt32LE(at);
        this.frame(data[at + 4], data.readUInt32LE(at + 5), data.subarray(at + 9, end));
        at = end;
      }
      this.rest = [data.subarray(at)];
      this.size = data.length - at;
    }
  }

  frame(kind, id, payload) {
    this.frames.push({ kind, id });
    if (kind === KIND.LOG) {
      const level = LEVELS[payload[0]];
      const text = level === 'cut' ? Number(payload.readBigUInt64LE(1)) : payload.subarray(1).toString();
      if (!this.logs.has(id)) this.logs.set(id, []);
      this.logs.get(id).push([level, text]);
      this.waiting.get('log')?.();
      return;
    }
    if (kind === KIND.CHUNK) {
      if (!this.chunks.has(id)) this.chunks.set(id, []);
      this.chunks.get(id).push(Buffer.from(payload));
      this.waiting.get('chunk')?.();
      return;
    }
    const key = kind < KIND.RESULT ? (kind === KIND.READY ? 'ready' : 'init') : id;
    const text = payload.toString();
    this.waiting.get(key)?.({ kind, id, text, json: JSON.parse(text), logs: this.logs.get(id) ?? [] });
    this.waiting.delete(key);
  }

  /** Answers everything that is still awaited, so that a test fails instead of waiting. */
  gone(text) {
    for (const resolve of this.waiting.values()) resolve({ kind: 'gone', text, json: { kind: 'gone', message: text }, logs: [] });
  }

  expect(key) {
    return new Promise((resolve) => this.waiting.set(key, resolve));
  }

  /** Calls the function; resolves to its reply and the logs before it. */
  invoke(event, options = {}) {
    const id = options.id ?? this.nextId++;
    const reply = this.expect(id);
    this.socket.write(invokeFrame(id, event, options));
    return reply;
  }

  /** As `invoke`, with a host that takes output before the end; the call's id is `reply.id`. */
  stream(event, options = {}) {
    const id = this.nextId++;
    this.socket.write(frame(KIND.CONTEXT, id, Buffer.from('{"stream":true,"body":false}')));
    const reply = this.invoke(event, { ...options, id });
    reply.id = id;
    return reply;
  }

  credit(id, bytes) {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(bytes);
    this.socket.write(frame(KIND.CREDIT, id, payload));
  }

  /** Waits until a call has sent so many chunks; all that it has sent. */
  async output(id, count) {
    while ((this.chunks.get(id) ?? []).length < count) await this.expect('chunk');
    return this.chunks.get(id);
  }

  async outside(count) {
    while ((this.logs.get(0) ?? []).length < count) await this.expect('log');
    return this.logs.get(0);
  }
}

/** A shim process, its code folder, and one connection to it (`main`). */
class Sandbox {
  static async start(t, { files = {}, warm = false, nodeArguments = [] } = {}) {
    const sandbox = new Sandbox();
    sandbox.folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'shim-')));
    sandbox.codeDir = path.join(sandbox.folder, 'task');
    for (const [name, text] of Object.entries({ '.keep': '', ...files })) {
      const file = path.join(sandbox.codeDir, name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, text);
    }
    sandbox.socket = path.join(sandbox.folder, 'guest.sock');
    // The handle must go before the shim serves, and closing it removes the path that it was bound to.
    const bound = path.join(sandbox.folder, 'bound.sock');
    const server = net.createServer().listen(bound);
    await once(server, 'listening');
    fs.renameSync(bound, sandbox.socket);
    sandbox.process = spawn(process.execPath, [...nodeArguments, SHIM, ...(warm ? ['--warm'] : [])], {
      cwd: '/',
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: '/tmp', LANG: 'C.UTF-8', TMPDIR: '/tmp' },
      stdio: ['ignore', 'pipe', 'pipe', server._handle.fd],
    });
    sandbox.stdout = collect(sandbox.process.stdout);
    sandbox.stderr = collect(sandbox.process.stderr);
    sandbox.exit = new Promise((resolve) => sandbox.process.on('close', (code, signal) => resolve(code ?? signal)));
    server.close();
    void sandbox.exit.then((code) => {
      for (const connection of sandbox.connections) connection.gone(`process ended (${code}): ${sandbox.stderr()}`);
    });
    t.after(async () => {
      for (const connection of sandbox.connections) connection.socket.destroy();
      sandbox.process.kill('SIGKILL');
      await sandbox.exit;
      fs.rmSync(sandbox.folder, { recursive: true, force: true });
    });
    sandbox.main = await sandbox.connect();
    return sandbox;
  }

  connections = [];

  async connect() {
    const connection = new Connection(net.connect(this.socket));
    this.connections.push(connection);
    this.ready = await connection.expect('ready');
    return connection;
  }

  initFrame(settings = {}) {
    return frame(
      KIND.INIT,
      0,
      Buffer.from(
        JSON.stringify({
          function_name: 'hello',
          function_version: '3',
          function_id: '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000',
          handler: 'index.handler',
          contract: 'module',
          memory_mb: 256,
          concurrency: 1,
          environment: {},
          code_dir: this.codeDir,
          check: false,
          ...settings,
        }),
      ),
    );
  }

  init(settings) {
    const reply = this.main.expect('init');
    this.main.socket.write(this.initFrame(settings));
    return reply;
  }
}

function collect(stream) {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString();
}

/** A sandbox whose `index.js` has this source, initialised. */
async function load(t, source, { settings, mustLoad = true, ...options } = {}) {
  const files = typeof source === 'string' ? { 'index.js': source } : source;
  const sandbox = await Sandbox.start(t, { files, ...options });
  sandbox.initReply = await sandbox.init(settings);
  if (mustLoad && sandbox.initReply.kind !== KIND.INIT_OK) throw new Error(`not loaded: ${sandbox.initReply.text}`);
  return sandbox;
}

module.exports = { KIND, Sandbox, frame, invokeFrame, load };
