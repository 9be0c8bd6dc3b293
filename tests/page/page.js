// The status page in a browser, as a person with a keyboard uses it.
//
//   node page.js URL CHROMIUM FOLDER SPKI-HASH
//
// The strings to sign in with are in SERVICE_STRING and OWNER_STRING; a device
// "gateway" is there, with a stream "echo" that has traffic.  Prints a line for
// each step; "added STRING" when it has added a device, which is to connect.
'use strict';
const assert = require('assert');
const { Browser } = require('./browser.js');

const [url, program, folder, spki] = process.argv.slice(2);
const { SERVICE_STRING, OWNER_STRING } = process.env;
const failures = []; // exceptions and errors of the page
const sent = []; // its requests

const text = (id) => `document.getElementById('${id}').textContent`;
const shown = (id) => `!document.getElementById('${id}').hidden`;
const focused = '(document.activeElement || {}).id';
const row = (id) => `[...document.querySelectorAll('#${id} tr')]
  .map((tr) => tr.innerText.replace(/\\s+/g, ' ')).join('|')`;

function said(step) {
  process.stdout.write(step + '\n');
}

async function open(browser) {
  const tab = await browser.open(1200, 900);
  browser.listeners.push((method, params) => {
    if (method === 'Runtime.exceptionThrown')
      failures.push(params.exceptionDetails.exception.description);
    if (method === 'Log.entryAdded' && params.entry.level === 'error' &&
        params.entry.source !== 'network')
      failures.push(params.entry.text);
    if (method === 'Network.requestWillBeSent')
      sent.push({ ...params.request, time: params.wallTime });
  });
  await tab.send('Network.enable');
  await tab.send('Page.addScriptToEvaluateOnNewDocument', {
    source: `window.violations = [];
      addEventListener('securitypolicyviolation',
        (e) => violations.push(e.effectiveDirective + ' ' + e.blockedURI));`
  });
  await tab.send('Page.navigate', { url });
  await tab.until(`${focused} === 'string'`);
  return tab;
}

async function signIn(tab, string) {
  await tab.ask('document.getElementById("string").select()');
  await tab.type(string);
  await tab.press('Enter');
}

async function testRefused(tab) {
  const key = 'A'.repeat(43) + '=';
  const cases = [
    ['hello', /not a connection string/],
    [SERVICE_STRING.replace(/SharedAccessKeyName=\w+;/, 'DeviceId=d;'),
      /a device’s connection string/],
    [SERVICE_STRING.replace(/SharedAccessKey=[^;]*/, 'SharedAccessKey=A'),
      /not base64/],
    [SERVICE_STRING.replace(/SharedAccessKey=[^;]*/, `SharedAccessKey=${key}`),
      /does not accept this key/],
    [SERVICE_STRING.replace(/KeyName=\w+/, 'KeyName=nobody'),
      /does not accept this key/]];
  for (const [string, wanted] of cases) {
    await signIn(tab, string);
    const error = await tab.until(text('sign-in-error'));
    assert.match(error, wanted);
    assert(await tab.ask(shown('sign-in')));
    assert(!await tab.ask(shown('status')));
    await tab.ask('document.getElementById("sign-in-error").textContent = ""');
  }
  said('refused');
}

async function testShown(tab) {
  await signIn(tab, SERVICE_STRING);
  await tab.until(shown('status'));
  assert.strictEqual(await tab.ask(text('who')), 'Signed in as service');
  assert.strictEqual(await tab.ask('document.getElementById("string").value'),
    '');
  await tab.until(`${row('devices')}.startsWith('gateway ready')`);
  const stream = await tab.until(row('streams'));
  assert.match(stream, /^gateway Stream ?echo|^gateway echo/);
  assert.strictEqual(await tab.ask(text('devices-count')), '1');
  assert.strictEqual(await tab.ask(text('streams-count')), '1');
  assert.strictEqual(await tab.ask(text('health')), 'Ready');
  await tab.until(`${text('down-rate')} !== '0 B/s' &&
    ${text('up-rate')} !== '0 B/s'`);
  await tab.until(`document.querySelectorAll('#plot path').length === 5`);
  await tab.until(`document.querySelector('#streams .rate span').textContent
    !== '0 B/s'`);
  assert.match(await tab.ask(text('log')), /start.*gateway · echo/);
  said('shown');
}

async function testOnly(tab) {
  await tab.ask('document.querySelector("#streams .link").click()');
  assert.strictEqual(await tab.ask(focused), 'only-none');
  await tab.until(`${text('log')}.includes('gateway')`);
  assert.match(await tab.ask(row('streams')), /gateway/);
  await tab.press('Enter');
  assert(!await tab.ask(shown('only')));
  await tab.until(`${text('log')}.includes('refused')`);
  said('only one device');
}

async function testEnd(tab) {
  await tab.ask('document.querySelector("#streams .danger").focus()');
  await tab.press('Enter');
  assert.strictEqual(await tab.ask(focused), 'end-cancel');
  assert.match(await tab.ask(text('end-text')), /^echo of gateway, opened by s/);
  await tab.press('Escape');
  assert.strictEqual(await tab.ask('document.activeElement.textContent'),
    'End');
  await tab.press('Enter');
  await tab.press('Tab');
  assert.strictEqual(await tab.ask(focused), 'end-yes');
  await tab.press('Enter');
  await tab.until(`${text('said')} === 'Stream echo of gateway was ended.'`);
  await tab.until(shown('streams-none'));
  await tab.until(`/kill.*ended by service@/.test(${text('log')}) &&
    ${text('log')}.includes('ended by an operator')`);
  said('ended');
}

async function add(tab, id) {
  await tab.ask('document.getElementById("add").focus()');
  await tab.press('Enter');
  assert.strictEqual(await tab.ask(focused), 'add-id');
  await tab.type(id);
  await tab.press('Enter');
}

async function testAdd(tab) {
  await add(tab, 'pump-7');
  assert.match(await tab.until(text('add-error')),
    /policy service may not add devices/);
  await tab.press('Escape');
  await tab.ask('document.getElementById("sign-out").click()');
  assert.strictEqual(await tab.ask(focused), 'string');
  assert.strictEqual(await tab.ask(row('devices')), '');
  await signIn(tab, OWNER_STRING);
  await tab.until(`${shown('status')} && ${row('devices')}`);
  await add(tab, 'no good');
  await tab.until(text('add-error'));
  await tab.press('Escape');
  await add(tab, 'gateway');
  await tab.until(text('add-error'));
  await tab.press('Escape');
  await add(tab, 'pump-7');
  await tab.until('document.getElementById("key-dialog").open');
  assert.strictEqual(await tab.ask(focused), 'key-copy');
  const string =
    await tab.ask('document.getElementById("key-string").value');
  await tab.press('Enter');
  await tab.until(`${text('key-said')} === 'Copied'`);
  assert.strictEqual(await tab.ask('navigator.clipboard.readText()'), string);
  await tab.press('Escape');
  await tab.until('document.getElementById("key-string").value === ""');
  said(`added ${string}`);
  await tab.until(`${row('devices')}.includes('pump-7 ready')`);
  said('the added device is there');
}

// ---- what a screen reader, a phone and a reader at night get ----

async function testNames(tab) {
  const { nodes } = await tab.send('Accessibility.getFullAXTree');
  const kinds = new Set(['button', 'textbox', 'checkbox', 'columnheader',
    'image', 'table', 'dialog']);
  let count = 0;
  for (const node of nodes) {
    if (node.ignored || !kinds.has(node.role.value))
      continue;
    count++;
    assert(node.name && node.name.value,
      `${node.role.value} without a name: ${JSON.stringify(node)}`);
  }
  assert(count >= 10, `only ${count} named things`);
  const roles = new Set(nodes.map((node) => node.role && node.role.value));
  for (const role of ['main', 'table', 'row', 'cell', 'heading', 'list'])
    assert(roles.has(role), `no ${role}`);
}

// The contrast of every text that is to be seen (WCAG 2.1, 1.4.3: 4.5).
const CONTRAST = `(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((n) => n / 255)
      .map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(color))
        return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility())
      continue;
    const [a, b] = [light(getComputedStyle(e).color), light(back(e))]
      .sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5)
      bad.push(walk.currentNode.data + ' ' + ((a + .05) / (b + .05)));
  }
  return bad;
})()`;

async function testLooks(tab) {
  await testNames(tab);
  for (const [width, height, phone] of [[1200, 900, false], [375, 800, true]]) {
    await tab.size(width, height, phone);
    for (const dark of [false, true]) {
      await tab.dark(dark);
      assert.deepStrictEqual(await tab.ask(CONTRAST), []);
      const back = await tab.ask(
        'getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]');
      assert(dark ? back < 64 : back > 192);
    }
    const over = await tab.ask(
      'document.documentElement.scrollWidth - innerWidth');
    assert(over <= 0, `${over} pixels too wide`);
  }
  await testNames(tab);
  said('looks');
}

// ---- what must not be there ----

// No key is sent, in no form; tokens are, for a short while.
function checkSent() {
  const origin = new URL(url).origin;
  const lives = [];
  for (const request of sent) {
    const all = decodeURIComponent(JSON.stringify(request)
      .replace(/%(?![0-9a-f]{2})/gi, '%25'));
    for (const string of [SERVICE_STRING, OWNER_STRING]) {
      const key = string.match(/SharedAccessKey=([^;]*)/)[1];
      assert(!all.includes(key.slice(0, 20)), `a key was sent: ${request.url}`);
    }
    assert(request.url.startsWith(origin) || request.url === 'about:blank',
      request.url);
    const token = request.headers.Authorization;
    if (token)
      lives.push(Number(token.match(/&se=(\d+)&/)[1]) - request.time);
  }
  assert(lives.length > 20, `only ${lives.length} tokens`);
  assert(Math.max(...lives) < 310 && Math.min(...lives) > 100, `${lives}`);
}

async function testSafe(tab) {
  assert.strictEqual(await tab.ask('document.cookie'), '');
  assert.strictEqual(
    await tab.ask('localStorage.length + sessionStorage.length'), 0);
  assert.deepStrictEqual(await tab.ask('indexedDB.databases()'), []);
  assert.deepStrictEqual(await tab.ask('window.violations'), []);
  assert.deepStrictEqual(failures, []);
  checkSent();
  // And that all this would have been seen:
  await assert.rejects(tab.ask('document.body.innerHTML = "<b>x</b>"'),
    /TrustedHTML/);
  await tab.ask(`new Image().src = 'https://127.0.0.1:1/x.png'; 1`);
  await tab.until('window.violations.some((v) => v.startsWith("img-src"))');
  await tab.send('Page.reload');
  await tab.until(`${focused} === 'string'`);
  assert(!await tab.ask(shown('status')));
  said('safe');
}

async function run() {
  const browser = new Browser(program, folder,
    [`--ignore-certificate-errors-spki-list=${spki}`]);
  try {
    const origin = new URL(url).origin;
    await browser.send('Browser.grantPermissions', {
      origin, permissions: ['clipboardReadWrite', 'clipboardSanitizedWrite']
    });
    const tab = await open(browser);
    for (const test of [testRefused, testShown, testOnly, testEnd, testAdd,
      testLooks, testSafe])
      await test(tab);
  } finally {
    await browser.close();
  }
}

run().catch((error) => {
  console.error(error, failures);
  process.exitCode = 1;
});
