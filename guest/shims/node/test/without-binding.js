'use strict';
// Preloaded by a test: a Node in which this interface has been removed.
process.binding = undefined;
