// The service side as the official SDK for Node has it on the branch with
// device streams (initiateStream, of which no release was published) and as its
// samples use it: one REST call, then websocket-stream, which offers
// permessage-deflate and no subprotocol.
//
//   node node_service.js echo DEVICE BYTES CONNECTION-STRING CA-FILE
//   node node_service.js unknown DEVICE CONNECTION-STRING CA-FILE
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const https = require('https');
const { ConnectionString, SharedAccessSignature, encodeUriComponentStrict } =
  require('azure-iot-common');
const websocket = require('websocket-stream');

const API_VERSION = '2018-10-20-preview';
const TIMEOUT_S = 30;

function makeToken(connection) {
  const expiry = Math.floor(Date.now() / 1000) + 3600;
  return SharedAccessSignature.create(
    encodeUriComponentStrict(connection.HostName),
    connection.SharedAccessKeyName, connection.SharedAccessKey,
    expiry).toString();
}

function initiateStream(connection, ca, device, name) {
  const options = {
    host: connection.HostName,
    port: 443,
    method: 'POST',
    path: '/twins/' + encodeURIComponent(device) + '/streams/' + name +
      '?api-version=' + API_VERSION,
    headers: {
      'Authorization': makeToken(connection),
      'Request-Id': crypto.randomUUID(),
      'User-Agent': 'azure-iothub/1.9.1-preview',
      'iothub-streaming-connect-timeout-in-seconds': TIMEOUT_S,
      'iothub-streaming-response-timeout-in-seconds': TIMEOUT_S
    },
    ca
  };
  return new Promise((resolve, reject) => {
    const request = https.request(options, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk) => { body += chunk; });
      response.on('end', () => resolve({ response, body }));
    });
    request.setTimeout(2 * TIMEOUT_S * 1000);
    request.on('error', reject);
    request.end();
  });
}

function openStream(headers, ca) {
  assert.strictEqual(headers['iothub-streaming-is-accepted'], 'True');
  return websocket(headers['iothub-streaming-url'], {
    headers: {
      Authorization: 'Bearer ' + headers['iothub-streaming-auth-token']
    },
    ca
  });
}

// Writes at once, as the samples do: the device may not have connected yet.
function echo(stream, bytes) {
  return new Promise((resolve, reject) => {
    const sum = crypto.createHash('sha256');
    let received = 0;
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('closed after ' + received)));
    stream.on('data', (chunk) => {
      sum.update(chunk);
      received += chunk.length;
      if (received >= bytes.length) {
        resolve(sum.digest('hex'));
      }
    });
    for (let at = 0; at < bytes.length; at += 65536) {
      stream.write(bytes.subarray(at, at + 65536));
    }
  });
}

async function testEcho(device, size, connectionString, caFile) {
  const ca = fs.readFileSync(caFile);
  const connection = ConnectionString.parse(connectionString);
  const { response, body } = await initiateStream(connection, ca, device,
    'TestStream');
  assert.strictEqual(response.statusCode, 200, body);
  const stream = openStream(response.headers, ca);
  const bytes = crypto.randomBytes(Number(size));
  const sum = crypto.createHash('sha256').update(bytes).digest('hex');
  assert.strictEqual(await echo(stream, bytes), sum);
  assert.deepStrictEqual(Object.keys(stream.socket.extensions), []);
  assert(!stream.socket.protocol, 'no subprotocol was offered');
  const closed = new Promise((resolve) => {
    stream.removeAllListeners('close');
    stream.on('close', resolve);
  });
  stream.end();
  await closed;
  process.stdout.write('echoed ' + size + '\n');
}

// What the official error parser needs: a JSON text whose Message is one, too.
async function testUnknown(device, connectionString, caFile) {
  const ca = fs.readFileSync(caFile);
  const connection = ConnectionString.parse(connectionString);
  const { response, body } = await initiateStream(connection, ca, device,
    'TestStream');
  assert.strictEqual(response.statusCode, 404, body);
  const error = JSON.parse(JSON.parse(body).Message);
  assert.strictEqual(error.errorCode, 404001);
  assert(error.trackingId.length > 0);
  process.stdout.write('404001\n');
}

const [what, ...args] = process.argv.slice(2);
const test = { echo: testEcho, unknown: testUnknown }[what];
test(...args).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
