'use strict';
// Turns whatever user code threw or returned into the members of an ERROR or INIT_ERR frame. The
// value may be anything, with getters and methods that throw: nothing here may throw.

const { stringify } = JSON;
const getOwn = Object.getOwnPropertyDescriptor;

const MAX_TEXT = 64 << 10; // characters of a message or stack
const MAX_CAUSES = 5;

/** `{type, message, stack?}` of a thrown value. */
function describe(thrown) {
  const type = typeName(thrown);
  if (!isError(thrown)) return { type, message: cut(asText(thrown)) };
  const message = cut(member(thrown, 'message') ?? '');
  const stack = stackOf(thrown, MAX_CAUSES);
  return stack === '' ? { type, message } : { type, message, stack };
}

/** The name that a user would give a value's type: an error's name, else its constructor's. */
function typeName(value) {
  if (value === null) return 'null';
  if (typeof value !== 'object') return typeof value;
  try {
    if (isError(value)) {
      const own = getOwn(value, 'name');
      if (own !== undefined && typeof own.value === 'string' && own.value !== '') return cut(own.value);
    }
    const name = value.constructor.name;
    if (typeof name === 'string' && name !== '') return cut(name);
  } catch {
    // a hostile getter or a value without a prototype
  }
  return isError(value) ? 'Error' : 'Object';
}

/** Errors of other realms (`vm`) count, hence the look at the members. */
function isError(value) {
  if (value === null || typeof value !== 'object') return false;
  try {
    return value instanceof Error || (typeof value.message === 'string' && typeof value.stack === 'string');
  } catch {
    return false;
  }
}

function member(value, key) {
  try {
    const found = value[key];
    return found === undefined ? undefined : typeof found === 'string' ? found : asText(found);
  } catch {
    return undefined;
  }
}

function asText(value) {
  try {
    if (typeof value === 'string') return value;
    if (typeof value === 'object' && value !== null) {
      const text = stringify(value);
      if (typeof text === 'string' && text !== '{}') return text;
    }
    return require('util').inspect(value, { depth: 2, breakLength: Infinity });
  } catch {
    return '(a value that cannot be shown)';
  }
}

/** The stack without our own frames; everything below the first of them is ours or Node's. */
function stackOf(error, causes) {
  const stack = member(error, 'stack');
  if (stack === undefined) return '';
  const lines = cut(stack).split('\n');
  const ours = lines.findIndex((line) => line.includes(__dirname) && /^\s+at /.test(line));
  let text = (ours < 0 ? lines : lines.slice(0, ours)).join('\n');
  let cause;
  try {
    cause = error.cause;
  } catch {
    // a hostile getter
  }
  if (cause !== undefined && cause !== null && causes > 0) {
    text += `\nCaused by: ${isError(cause) ? stackOf(cause, causes - 1) : cut(asText(cause))}`;
  }
  return text;
}

function cut(text) {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}

module.exports = { describe, typeName };
