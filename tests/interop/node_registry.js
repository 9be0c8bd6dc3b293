// The identity registry as azure-iothub has it, with its own tokens.
//
//   node node_registry.js all CONNECTION-STRING READ-ONLY-CONNECTION-STRING
//
// NODE_EXTRA_CA_CERTS names the hub's CA.  Prints the name of each step.
'use strict';
const assert = require('assert');
const { Registry } = require('azure-iothub');

const KEY = Buffer.alloc(32, 'k').toString('base64');
const THUMBPRINT = '0123456789ABCDEF0123456789ABCDEF01234567';

function said(step) {
  process.stdout.write(step + '\n');
}

// The official errors have a class and the answer, whose body has the code.
async function fails(promise, name, code) {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(error.name, name, error.stack);
    if (code) {
      assert.strictEqual(error.response.headers['iothub-errorcode'], code);
      assert(error.message.length > 0 && !error.message.startsWith('Error:'),
        error.message);
    }
    return true;
  });
}

async function testCreate(registry) {
  const { responseBody: device, httpResponse } =
    await registry.create({ deviceId: 'node:1' });
  assert.strictEqual(httpResponse.statusCode, 200);
  assert.strictEqual(device.deviceId, 'node:1');
  assert.strictEqual(device.status, 'enabled');
  assert.strictEqual(device.statusReason, null);
  assert.strictEqual(device.connectionState, 'Disconnected');
  assert.strictEqual(device.cloudToDeviceMessageCount, 0);
  assert.strictEqual(device.authentication.type, 'sas');
  const key = device.authentication.symmetricKey.primaryKey;
  assert.strictEqual(Buffer.from(key, 'base64').length, 32);
  assert(!Number.isNaN(Date.parse(device.lastActivityTime)));
  await fails(registry.create({ deviceId: 'node:1' }),
    'DeviceAlreadyExistsError', 'DeviceAlreadyExists');
  const given = await registry.create({
    deviceId: 'node2',
    status: 'disabled',
    statusReason: 'not yet "there"',
    authentication: { symmetricKey: { primaryKey: KEY, secondaryKey: KEY } }
  });
  assert.strictEqual(given.responseBody.status, 'disabled');
  assert.strictEqual(given.responseBody.statusReason, 'not yet "there"');
  assert.strictEqual(
    given.responseBody.authentication.symmetricKey.primaryKey, KEY);
  await registry.create({
    deviceId: 'node3',
    authentication: { x509Thumbprint: { primaryThumbprint: THUMBPRINT } }
  });
  await registry.create({
    deviceId: 'node4', authentication: { type: 'certificateAuthority' }
  });
  await fails(registry.create({ deviceId: 'no good' }), 'ArgumentError',
    'ArgumentInvalid');
  said('create');
}

async function testGet(registry, reader) {
  const { responseBody: device } = await registry.get('node3');
  assert.strictEqual(device.authentication.type, 'selfSigned');
  assert.strictEqual(
    device.authentication.x509Thumbprint.primaryThumbprint.toUpperCase(),
    THUMBPRINT);
  assert.strictEqual(device.authentication.symmetricKey.primaryKey, null);
  assert.strictEqual((await registry.get('node4')).responseBody
    .authentication.type, 'certificateAuthority');
  await fails(registry.get('nobody'), 'DeviceNotFoundError', 'DeviceNotFound');
  const shown = (await reader.get('node2')).responseBody;
  assert.strictEqual(shown.deviceId, 'node2');
  assert.strictEqual(shown.authentication.symmetricKey.primaryKey, null);
  await fails(reader.create({ deviceId: 'node5' }), 'UnauthorizedError',
    'IotHubUnauthorizedAccess');
  said('get');
}

async function testUpdate(registry) {
  const { responseBody: before } = await registry.get('node:1');
  const { responseBody: after } =
    await registry.update({ deviceId: 'node:1', status: 'disabled' });
  assert.strictEqual(after.status, 'disabled');
  assert.notStrictEqual(after.etag, before.etag);
  assert.strictEqual(after.generationId, before.generationId);
  assert(Date.parse(after.statusUpdatedTime) > Date.now() - 3600000);
  assert.deepStrictEqual(after.authentication, before.authentication);
  await fails(registry.update({ deviceId: 'nobody' }), 'DeviceNotFoundError',
    'DeviceNotFound');
  // The etag: only bulk operations send it.
  before.status = 'enabled';
  await fails(registry.updateDevices([before], false), 'ArgumentError');
  assert.strictEqual((await registry.get('node:1')).responseBody.status,
    'disabled');
  after.status = 'enabled';
  const { responseBody: result } = await registry.updateDevices([after], false);
  assert.deepStrictEqual(result,
    { isSuccessful: true, errors: [], warnings: [] });
  assert.strictEqual((await registry.get('node:1')).responseBody.status,
    'enabled');
  said('update');
}

async function testList(registry) {
  const { responseBody: devices } = await registry.list();
  assert.deepStrictEqual(devices.map((device) => device.deviceId),
    ['node2', 'node3', 'node4', 'node:1']);
  const { responseBody: count } = await registry.getRegistryStatistics();
  assert.deepStrictEqual(count, {
    totalDeviceCount: 4, enabledDeviceCount: 3, disabledDeviceCount: 1
  });
  said('list');
}

async function testBulk(registry) {
  const many = [];
  for (let i = 0; i < 100; i++) {
    many.push({ deviceId: 'bulk' + i, statusReason: 'r'.repeat(128) });
  }
  assert((await registry.addDevices(many)).responseBody.isSuccessful);
  assert.strictEqual((await registry.list()).responseBody.length, 104);
  // Whole devices, as they were read: the largest request there is.
  const full = (await registry.list()).responseBody
    .filter((device) => device.deviceId.startsWith('bulk'));
  full.forEach((device) => { device.status = 'disabled'; });
  assert((await registry.updateDevices(full, false)).responseBody
    .isSuccessful);
  assert((await registry.updateDevices(full, true)).responseBody.isSuccessful);
  await assert.rejects(registry.removeDevices(full, false), (error) => {
    assert.strictEqual(error.name, 'ArgumentError');
    const { isSuccessful, errors } = JSON.parse(error.responseBody);
    assert(!isSuccessful && errors.length === 100);
    assert.strictEqual(errors[0].errorCode, 'PreconditionFailed');
    return true;
  });
  assert((await registry.removeDevices(full, true)).responseBody.isSuccessful);
  assert.strictEqual((await registry.list()).responseBody.length, 4);
  said('bulk');
}

async function testDelete(registry) {
  const { httpResponse } = await registry.delete('node:1');
  assert.strictEqual(httpResponse.statusCode, 204);
  await fails(registry.delete('node:1'), 'DeviceNotFoundError',
    'DeviceNotFound');
  await fails(registry.get('node:1'), 'DeviceNotFoundError', 'DeviceNotFound');
  said('delete');
}

// As programs have it that do not await.
async function testCallbacks(registry) {
  await new Promise((resolve, reject) => {
    registry.get('nobody', (error) => {
      if (error && error.name === 'DeviceNotFoundError') {
        resolve();
      } else {
        reject(error || new Error('nobody is there'));
      }
    });
  });
  said('callbacks');
}

async function testAll(connectionString, readOnly) {
  const registry = Registry.fromConnectionString(connectionString);
  const reader = Registry.fromConnectionString(readOnly);
  await testCreate(registry);
  await testGet(registry, reader);
  await testUpdate(registry);
  await testList(registry);
  await testBulk(registry);
  await testDelete(registry);
  await testCallbacks(registry);
}

const [, ...args] = process.argv.slice(2);
testAll(...args).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
