// Greets whoever the event names. The returned value is the result; console lines are the invocation's logs.
exports.handler = async (event, context) => {
  const name = event?.name ?? "World";
  console.log(`greeting ${name}`);
  return {
    message: `Hello, ${name}, from Node.js ${process.versions.node}!`,
    requestId: context.awsRequestId,
    remainingMs: context.getRemainingTimeInMillis(),
  };
};
