// SPDX-License-Identifier: Apache-2.0
// A Node.js server, its clients and a worker thread in one process: `copy-N` is what was fetched.
'use strict';
const fs = require('fs');
const http = require('http');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const CLIENTS = 8;

function fetch(port, number) {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port, path: `/${number}` }, (response) => {
      const copy = fs.createWriteStream(`copy-${number}`);
      response.pipe(copy);
      copy.on('finish', resolve);
      copy.on('error', reject);
    });
    request.on('error', reject);
  });
}

async function main() {
  fs.writeFileSync('page', 'content of a page\n'.repeat(200));
  const server = http.createServer((_, response) => fs.createReadStream('page').pipe(response));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await Promise.all([...Array(CLIENTS).keys()].map((number) => fetch(port, number)));
  server.close();
  const sum = await new Promise((resolve, reject) => {
    const worker = new Worker(__filename);
    worker.on('message', resolve);
    worker.on('error', reject);
  });
  fs.writeFileSync('sum', `${sum}\n`);
}

if (isMainThread) {
  main();
} else {
  parentPort.postMessage(fs.readFileSync('page').reduce((sum, byte) => sum + byte, 0));
}
