// Google's functions-framework with an echo. Its command line listens on every address; its server for tests is the
// same one and lets us choose.
'use strict';

const functions = require('@google-cloud/functions-framework');
const { getTestServer } = require('@google-cloud/functions-framework/testing');

functions.http('echo', (request, response) => {
  response.json(request.body);
});

const server = getTestServer('echo');
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
