// The official device SDK for Node against a hub: connects, subscribes as its
// applications do, stays connected while its token is renewed twice, ends.
//
//   node node_device.js Mqtt|MqttWs CONNECTION-STRING CA-FILE
//   node node_device.js refused Mqtt|MqttWs CONNECTION-STRING CA-FILE
//
// Each step is a line on stdout; exit status 0 when all of them came.
'use strict';
const assert = require('assert');
const fs = require('fs');
const { Client, Message, SharedAccessKeyAuthenticationProvider } =
  require('azure-iot-device');
const transports = require('azure-iot-device-mqtt');

const TOKEN_VALID_S = 6;
const TOKEN_MARGIN_S = 3;
const RENEWALS = 2;

function step(text) {
  process.stdout.write(text + '\n');
}

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, resolve));
}

function makeClient(transport, connectionString, caFile, provider) {
  const client = Client.fromAuthenticationProvider(provider,
    transports[transport]);
  return client.setOptions({ ca: fs.readFileSync(caFile, 'ascii') })
    .then(() => client);
}

// The client does not tell when its filters were acknowledged; its transport
// knows.
async function subscribed(client, topic) {
  for (;;) {
    const state = client._transport._topics[topic];
    if (state && state.subscribed) {
      step('subscribed to ' + state.name);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function stay(transport, connectionString, caFile) {
  const provider = SharedAccessKeyAuthenticationProvider.fromConnectionString(
    connectionString, TOKEN_VALID_S, TOKEN_MARGIN_S);
  const client = await makeClient(transport, connectionString, caFile,
    provider);
  client.on('error', (error) => { throw error; });
  client.on('disconnect', () => { throw new Error('disconnected'); });
  await client.open();
  step('connected');
  client.onDeviceMethod('reboot', () => {});
  await subscribed(client, 'method');
  client.on('message', () => {});
  await subscribed(client, 'message');
  // Acknowledged by the hub, so the connection works.
  await client.sendEvent(new Message('before'));
  for (let i = 1; i <= RENEWALS; i++) {
    await once(provider, 'newTokenAvailable');
    await client.sendEvent(new Message('after renewal ' + i));
    step('renewed');
  }
  client.removeAllListeners('disconnect');
  await client.close();
  step('closed');
}

async function refused(transport, connectionString, caFile) {
  const wrong = connectionString.replace(/SharedAccessKey=[^;]*/,
    'SharedAccessKey=' + Buffer.from('not the key').toString('base64'));
  const provider = SharedAccessKeyAuthenticationProvider.fromConnectionString(
    wrong);
  const client = await makeClient(transport, wrong, caFile, provider);
  // It tries again for four minutes where it takes a refusal for an outage.
  await assert.rejects(client.open(), { name: 'UnauthorizedError' });
  step('refused');
}

async function main(args) {
  if (args[0] === 'refused') {
    await refused(...args.slice(1));
  } else {
    await stay(...args);
  }
}

process.on('uncaughtException', (error) => {
  console.error(error);
  process.exit(1);
});
main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
