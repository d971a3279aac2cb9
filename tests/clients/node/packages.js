'use strict';

// Finds the npm packages: beside this file, or in the folder that BANQIAO_NODE_MODULES names, where tests/run
// installs them so that nothing lands in the work tree.

const { createRequire } = require('node:module');
const path = require('node:path');

const folder = process.env.BANQIAO_NODE_MODULES;
const find = folder ? createRequire(path.join(path.resolve(folder), 'index.js')) : require;

module.exports = {
  grpc: find('@grpc/grpc-js'),
  protoLoader: find('@grpc/proto-loader'),
};
