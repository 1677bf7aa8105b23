'use strict';
// Response streaming in the form of AWS Lambda's Node.js runtime: `awslambda.streamifyResponse` marks a handler,
// `awslambda.HttpResponseStream.from` gives its response a head. Loaded by the first function that asks for it.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
//
// What is written goes out as CHUNK frames, the head first, no faster than the host takes it. Where the host did
// not announce that it streams, everything is collected into an ordinary result.

const { Writable } = require('stream');

const { parse, stringify } = JSON;
const uncurry = Function.prototype.bind.bind(Function.prototype.call);
const subarray = uncurry(Uint8Array.prototype.subarray);
const bytesToString = uncurry(Buffer.prototype.toString);
const toLowerCase = uncurry(String.prototype.toLowerCase);
const { concat, byteLength } = Buffer;
const { keys } = Object;
const { isUtf8 } = require('buffer');
const { min } = Math;
const all = Promise.all.bind(Promise);
const then = uncurry(Promise.prototype.then);

const RESULT = 67, CHUNK = 70;
const WINDOW = 256 << 10; // bytes that the host has not taken yet
const PIECE = 64 << 10;
const HEAD_LIMIT = 64 << 10;
const MAX_RESULT = 6 << 20;
const DEFAULT_TYPE = 'application/octet-stream';
// The marks of AWS' own runtime, which wrappers of handlers copy.
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

/** What the handler gets as its second argument. */
class ResponseStream extends Writable {
  #invocation;
  #streams; // whether the host takes output before the end
  #window = WINDOW;
  #held = null; // what waits for credit, and its callback
  #head = null;
  #type = null;
  #begun = false;
  #collected = [];
  #size = 0;

  constructor(invocation, streams, options, finished, failed) {
    super(options);
    this.#invocation = invocation;
    this.#streams = streams;
    this.on('error', failed); // without a listener it would end the process
    this.on('finish', finished);
    this.on('close', () => failed(new Error('the response stream was closed before its end')));
  }

  setContentType(type) {
    this.#type = `${type}`;
  }

  _write(chunk, encoding, callback) {
    if (this.#invocation.done) return callback();
    if (this.#streams) {
      const problem = this.#begin();
      if (problem !== null) return callback(problem);
      this.#held = [chunk, callback];
      return this.#send();
    }
    this.#size += chunk.length;
    if (this.#size > MAX_RESULT) {
      return callback(new RangeError(`the response has more than ${MAX_RESULT} bytes, and this call is not streamed`));
    }
    this.#collected.push(chunk);
    callback();
  }

  _final(callback) {
    callback(this.#streams && !this.#invocation.done ? this.#begin() : null);
  }

  _destroy(error, callback) {
    const held = this.#held;
    this.#held = null;
    if (held !== null) held[1](error ?? new Error('the response stream was destroyed'));
    callback(error);
  }

  /** Sends the head, once; returns why it cannot. */
  #begin() {
    if (this.#begun) return null;
    this.#begun = true;
    let text;
    try {
      text = stringify(this.#describe());
    } catch (error) {
      return error;
    }
    const size = byteLength(text);
    if (size > HEAD_LIMIT) return new RangeError(`the head of the response has ${size} bytes; at most ${HEAD_LIMIT} are allowed`);
    this.#window -= size;
    this.#invocation.connection.send(CHUNK, this.#invocation.id, text);
    return null;
  }

  #describe() {
    const { statusCode = 200, headers, cookies } = this.#head ?? {};
    const described = { statusCode, headers: { ...headers } };
    if (cookies !== undefined && cookies !== null) described.cookies = cookies;
    if (!keys(described.headers).some((name) => toLowerCase(name) === 'content-type')) {
      described.headers['content-type'] = this.#type ?? DEFAULT_TYPE;
    }
    return described;
  }

  #send() {
    let [chunk, callback] = this.#held;
    const { connection, id } = this.#invocation;
    while (chunk.length > 0 && !this.#invocation.done) {
      const size = min(this.#window, PIECE, chunk.length);
      if (size <= 0) {
        this.#held = [chunk, callback];
        return;
      }
      this.#window -= size;
      connection.sendBytes(CHUNK, id, subarray(chunk, 0, size));
      chunk = subarray(chunk, size);
    }
    this.#held = null;
    callback();
  }

  /** The text of the whole response as JSON: itself if it is that, else a string; with a head, both as a response. */
  #result() {
    const bytes = concat(this.#collected);
    const text = bytesToString(bytes, 'utf8');
    if (this.#head === null) {
      try {
        parse(text);
        return text;
      } catch {
        return stringify(text);
      }
    }
    const isText = isUtf8(bytes);
    const body = isText ? text : bytesToString(bytes, 'base64');
    return stringify({ ...this.#describe(), body, isBase64Encoded: !isText });
  }

  /** The host has taken so many bytes. */
  static credit(stream, bytes) {
    stream.#window = min(stream.#window + bytes, WINDOW);
    if (stream.#held !== null) stream.#send();
  }

  static setHead(stream, head) {
    if (!(#head in stream)) return;
    if (stream.#begun) throw new Error('the response has begun; its head can no longer be set');
    stream.#head = head ?? {};
  }

  /** The RESULT frame of a response that is complete. */
  static finish(stream) {
    const invocation = stream.#invocation;
    if (invocation.done) return;
    let text = 'null';
    if (!stream.#streams) {
      try {
        text = stream.#result();
      } catch (error) {
        return invocation.reject(error);
      }
      const size = byteLength(text);
      if (size > MAX_RESULT) {
        const message = `the response has ${size} bytes as JSON; at most ${MAX_RESULT} bytes are allowed`;
        return invocation.fail('BadResponse', { type: 'BadResponse', message });
      }
    }
    invocation.close();
    invocation.connection.send(RESULT, invocation.id, text);
  }
}

const { credit, finish, setHead } = ResponseStream;
for (const name of ['credit', 'finish', 'setHead']) delete ResponseStream[name];

/** Calls a handler that streams. A method of the shim. */
async function call(invocation, event, context) {
  const { connection, id } = invocation;
  const { handler } = this;
  const streams = connection.streamed !== null && connection.streamed.delete(id);
  let stream;
  const whole = new Promise((resolve, reject) => {
    stream = new ResponseStream(invocation, streams, { highWaterMark: handler[HIGH_WATER_MARK] }, resolve, reject);
  });
  then(whole, undefined, () => {}); // a handler that throws at once leaves nobody to look at it
  connection.streams ??= new Map();
  connection.streams.set(id, stream);
  try {
    // A response that fails ends the call, whatever its handler waits for.
    await all([handler(event, stream, context), whole]);
    finish(stream);
  } catch (error) {
    invocation.reject(error);
    stream.destroy();
  }
  connection.streams.delete(id);
}

/** Nobody waits for the response any more. */
function cancel(stream) {
  stream.destroy(new Error('the caller hung up'));
}

const awslambda = {
  streamifyResponse(handler, options) {
    if (typeof handler !== 'function') throw new TypeError('streamifyResponse takes a function');
    handler[STREAMING] = 'response';
    if (options?.highWaterMark !== undefined) handler[HIGH_WATER_MARK] = Number(options.highWaterMark);
    return handler;
  },
  HttpResponseStream: class HttpResponseStream {
    static from(stream, metadata) {
      setHead(stream, metadata);
      return stream;
    }
  },
};

module.exports = { awslambda, call, cancel, credit };
