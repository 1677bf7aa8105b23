'use strict';
// The function of the rehearsal: it does what functions do, so that the code behind it is compiled.

exports.handler = async (event, context) => {
  console.log('%s %d', context.functionName, event.count, { event });
  console.error(new Error('sample').message);
  process.stdout.write(`${context.awsRequestId}\n`);
  await null;
  const left = context.getRemainingTimeInMillis();
  return { statusCode: 200, body: JSON.stringify({ ...event, left }) };
};

exports.plain = (event) => event;

exports.failing = async () => {
  throw new TypeError('sample');
};
