// The status page: it signs in with a service's connection string, then shows
// what the hub's REST for operators says (src/hub/rest_admin.h), and adds
// devices with the registry's (src/hub/rest_registry.h).
//
// The key is WebCrypto's, not extractable; what is sent are tokens that live
// for five minutes.  What comes from the hub becomes text, never markup.

const POLL_MS = 2000;
const RETRY_MS = 4000;
const NOTICE_MS = 8000;
const TOKEN_S = 300;
const WAIT_S = 25; // a question for new activity is answered by then
const PLOT_MS = 5 * 60 * 1000;
const SPARK_POINTS = 30;
const ROWS_MAX = 200; // of a list; the filter finds the others
const LOG_MAX = 300;

const $ = (id) => document.getElementById(id);

// The session: null while nobody is signed in.
let session = null;
// Of the hub's clock, as its answers have it, over this computer's.
let skewMs = 0;
let onlyDevice = '';

// ---- texts ----

// Three digits, so that numbers that change keep their width; round: no zeros
// behind the point.
function bytes(n, round) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) {
    n /= 1000;
    i++;
  }
  const text = i === 0 ? String(Math.round(n)) : n.toPrecision(3);
  return `${round ? Number(text) : text} ${units[i]}`;
}

const rate = (n, round) => bytes(n, round) + '/s';

function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60)
    return `${s} s`;
  if (s < 3600)
    return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400)
    return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

const hubNow = () => Date.now() + skewMs;
const since = (time) => duration(hubNow() - Date.parse(time));

function count(n, one, many) {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
}

function clock(time) {
  const t = new Date(time);
  const two = (n) => String(n).padStart(2, '0');
  const text = `${two(t.getHours())}:${two(t.getMinutes())}:` +
    two(t.getSeconds());
  if (t.toDateString() === new Date().toDateString())
    return text;
  return `${two(t.getMonth() + 1)}-${two(t.getDate())} ${text}`;
}

const client = (o) => o.deviceId + (o.moduleId ? '/' + o.moduleId : '');

// ---- elements ----

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element)
      element[key] = value;
    else
      element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function shape(name, attributes) {
  const element =
    document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes))
    element.setAttribute(key, value);
  return element;
}

// Only what changed is written: a selection and a reader's place stay.
function write(element, text) {
  if (element.textContent !== text)
    element.textContent = text;
}

function show(element, shown) {
  if (element.hidden === shown)
    element.hidden = !shown;
}

// Makes the rows of a list fit its items; rows that stay are the same elements,
// so that the focus stays, too.
function fill(body, items, keyOf, makeRow, update) {
  const wanted = new Set(items.map(keyOf));
  const rows = new Map();
  for (const row of [...body.children]) {
    if (wanted.has(row.id))
      rows.set(row.id, row);
    else
      row.remove();
  }
  let next = body.firstElementChild;
  for (const item of items) {
    const id = keyOf(item);
    const row = rows.get(id) || makeRow(item);
    row.id = id;
    update(row, item);
    if (row === next)
      next = next.nextElementSibling;
    else
      body.insertBefore(row, next);
  }
}

function cell(label, name = '', ...children) {
  const td = make('td', { className: name, role: 'cell' }, ...children);
  if (label)
    td.setAttribute('data-label', label);
  return td;
}

function deviceButton(id) {
  const button =
    make('button', { type: 'button', className: 'link id' }, id);
  button.setAttribute('aria-label', `${id}: show this device only`);
  button.addEventListener('click', () => setOnly(id));
  return button;
}

// ---- signing ----

const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));

// What is wrong with a text is told in the words of who has it before them.
function readString(text) {
  const parts = {};
  for (const pair of text.trim().split(';')) {
    const at = pair.indexOf('=');
    if (at > 0)
      parts[pair.slice(0, at).trim().toLowerCase()] = pair.slice(at + 1);
  }
  if (!parts.hostname || !parts.sharedaccesskey)
    throw new Error('This is not a connection string: it begins with ' +
      'HostName= and has a SharedAccessKey=.');
  if (!parts.sharedaccesskeyname)
    throw new Error('This is a device’s connection string. A service’s has a ' +
      'SharedAccessKeyName= in it.');
  let key = '';
  try {
    key = Uint8Array.from(atob(parts.sharedaccesskey.trim()),
      (c) => c.charCodeAt(0));
  } catch {
    throw new Error('The SharedAccessKey is not complete: it is not base64.');
  }
  return { host: parts.hostname, policy: parts.sharedaccesskeyname, key };
}

async function newSession(text) {
  const { host, policy, key } = readString(text);
  if (!crypto.subtle)
    throw new Error('The browser signs on https pages only.');
  const handle = await crypto.subtle.importKey('raw', key,
    { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  key.fill(0);
  return {
    host, policy, key: handle, token: '', until: 0,
    abort: new AbortController(),
    cursor: '', totals: [], streams: new Map(), hub: null, noticeUntil: 0
  };
}

async function tokenOf(session) {
  const now = Math.floor(hubNow() / 1000);
  if (session.until - now > TOKEN_S / 2 && session.until - now <= TOKEN_S)
    return session.token;
  const until = now + TOKEN_S;
  const resource = encodeURIComponent(session.host);
  const signature = await crypto.subtle.sign('HMAC', session.key,
    new TextEncoder().encode(`${resource}\n${until}`));
  session.until = until;
  session.token = `SharedAccessSignature sr=${resource}` +
    `&sig=${encodeURIComponent(base64(signature))}&se=${until}` +
    `&skn=${encodeURIComponent(session.policy)}`;
  return session.token;
}

// ---- REST ----

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Both forms that errors have (src/hub/hub_error.h).
function errorText(body) {
  try {
    const message = JSON.parse(body).Message;
    if (message.startsWith('{'))
      return JSON.parse(message).message;
    return message.replace(/^ErrorCode:[A-Za-z]*;/, '');
  } catch {
    return 'The hub’s answer can’t be read.';
  }
}

function readClock(response) {
  const date = Date.parse(response.headers.get('Date'));
  if (!Number.isNaN(date) && Math.abs(date - hubNow()) > 2000)
    skewMs = date - Date.now();
}

async function call(s, method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { Authorization: await tokenOf(s) },
    body: body && JSON.stringify(body),
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
    signal: s.abort.signal
  });
  readClock(response);
  const text = await response.text();
  if (!response.ok)
    throw new Refused(response.status, errorText(text));
  return text ? JSON.parse(text) : null;
}

// The first ROWS_MAX entries of a list, and whether there are more.
async function list(s, name) {
  const device = onlyDevice && `&device=${encodeURIComponent(onlyDevice)}`;
  const items = [];
  let cursor = '';
  do {
    const page = await call(s, 'GET', `/${name}?limit=100${device}` +
      (cursor && `&cursor=${encodeURIComponent(cursor)}`));
    items.push(...page[name]);
    cursor = page.cursor || '';
  } while (cursor && items.length < ROWS_MAX);
  return { items, more: cursor !== '' };
}

// ---- the two loops: numbers, and activity ----

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    resolve();
  }, { once: true });
});

// A page that nobody sees asks nothing.
const seen = (signal) => new Promise((resolve) => {
  if (!document.hidden || signal.aborted) {
    resolve();
    return;
  }
  document.addEventListener('visibilitychange', resolve, { once: true });
  signal.addEventListener('abort', resolve, { once: true });
});

function lost(s, error) {
  if (s !== session || s.abort.signal.aborted)
    return;
  if (error instanceof Refused && error.status === 401) {
    signOut(`The hub no longer accepts the key of ${s.policy}. ` +
      error.message);
    return;
  }
  write($('notice'), error instanceof Refused
    ? `The hub answered: ${error.message}`
    : 'The hub can’t be reached. Trying again …');
  show($('notice'), true);
}

async function repeat(s, step) {
  const signal = s.abort.signal;
  while (!signal.aborted) {
    let wait = 0;
    await seen(signal);
    try {
      wait = await step(s);
    } catch (error) {
      lost(s, error);
      wait = RETRY_MS;
    }
    if (wait > 0 && !signal.aborted)
      await pause(wait, signal);
  }
}

async function stepNumbers(s) {
  const device = onlyDevice;
  const [hub, streams, devices] = await Promise.all([
    call(s, 'GET', '/hub'), list(s, 'streams'), list(s, 'connections')]);
  if (s.abort.signal.aborted || device !== onlyDevice)
    return 0;
  if (performance.now() > s.noticeUntil)
    show($('notice'), false);
  s.hub = hub;
  showHub(s);
  showStreams(s, streams);
  showDevices(devices);
  return POLL_MS;
}

async function stepActivity(s) {
  const device = onlyDevice;
  const answer = await call(s, 'GET', '/activity?' + new URLSearchParams({
    ...(device && { device }),
    ...(s.cursor ? { after: s.cursor, wait: WAIT_S } : {}),
    limit: 200
  }));
  if (s.abort.signal.aborted || device !== onlyDevice)
    return 0;
  s.cursor = answer.cursor;
  showRecords(answer.records);
  return 0;
}

// ---- plots ----

// Bytes each way, in all, and from them the rates in between.
function remember(points, t, down, up, keep) {
  const last = points[points.length - 1];
  if (last && t - last.t < POLL_MS / 2)
    return last;
  const point = { t, down, up, downRate: 0, upRate: 0 };
  if (last && (down < last.down || up < last.up))
    points.length = 0; // the hub was started again
  if (last && points.length && t > last.t) {
    point.downRate = (down - last.down) * 1000 / (t - last.t);
    point.upRate = (up - last.up) * 1000 / (t - last.t);
  }
  points.push(point);
  while (!keep(points))
    points.shift();
  return point;
}

// 1, 2 or 5 times a power of ten, so that the axis has round numbers.
function roundUp(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(n, 100)));
  return [1, 2, 5, 10].map((k) => k * power).find((top) => top >= n);
}

function line(points, value, x, y) {
  return points.map((p, i) => `${i ? 'L' : 'M'}${x(p).toFixed(2)} ` +
    y(value(p)).toFixed(2)).join('');
}

function drawRates(points) {
  const svg = $('plot');
  const drawn = points.slice(1);
  const now = points.length ? points[points.length - 1].t : 0;
  const most = (key) => Math.max(0, ...drawn.map((p) => p[key]));
  const top = roundUp(Math.max(most('downRate'), most('upRate')));
  const x = (p) => 300 - (now - p.t) * 300 / PLOT_MS;
  const y = (v) => 100 - v * 100 / top;
  const paths = [['grid', 'M0 0H300M0 50H300M0 100H300']];
  if (drawn.length > 1) {
    for (const [name, key] of [['down', 'downRate'], ['up', 'upRate']]) {
      const path = line(drawn, (p) => p[key], x, y);
      paths.push([`area ${name}`,
        `${path}V100H${x(drawn[0]).toFixed(2)}Z`], [name, path]);
    }
  }
  while (svg.children.length < paths.length)
    svg.append(shape('path', {}));
  while (svg.children.length > paths.length)
    svg.lastChild.remove();
  paths.forEach(([name, d], i) => {
    svg.children[i].setAttribute('class', name);
    svg.children[i].setAttribute('d', d);
  });
  write($('plot-top'), rate(top, true));
  write($('plot-middle'), rate(top / 2, true));
  svg.setAttribute('aria-label', 'Rates in the last five minutes: to ' +
    `devices at most ${rate(most('downRate'))}, to services at most ` +
    rate(most('upRate')));
}

function drawSpark(svg, points) {
  const both = (p) => p.downRate + p.upRate;
  const drawn = points.slice(1);
  const top = Math.max(1, ...drawn.map(both));
  const first = SPARK_POINTS - drawn.length;
  const x = (p) => (first + drawn.indexOf(p)) * 100 / (SPARK_POINTS - 1);
  const path = line(drawn, both, x, (v) => 19 - v * 18 / top);
  svg.lastChild.setAttribute('d', drawn.length > 1 ? path : 'M0 19');
}

// ---- what is shown ----

function showHub(s) {
  const hub = s.hub;
  const point = remember(s.totals, performance.now(), hub.bytesToDevice,
    hub.bytesToService, (points) => points.length < 2 ||
      points[points.length - 1].t - points[1].t <= PLOT_MS);
  document.title = `${hub.name} – device streams`;
  write($('title'), hub.name);
  write($('health'), hub.ready ? 'Ready' : `Not ready: ${hub.reason}`);
  $('health').className = hub.ready ? 'pill' : 'pill bad';
  show($('health'), true);
  write($('devices-count'), hub.devicesConnected.toLocaleString('en'));
  const deaf = hub.devicesConnected - hub.devicesReady;
  write($('devices-more'), deaf > 0
    ? `${count(deaf, 'takes', 'take')} no streams` : 'connected');
  write($('streams-count'), hub.streamsRunning.toLocaleString('en'));
  write($('streams-more'), (hub.streamsPending > 0
    ? `and ${hub.streamsPending} being opened, ` : '') +
    `${hub.streamsOpened.toLocaleString('en')} so far, ` +
    `${hub.streamsFailed.toLocaleString('en')} failed`);
  write($('down-rate'), rate(point.downRate));
  write($('down-more'), `${bytes(hub.bytesToDevice)} in all`);
  write($('up-rate'), rate(point.upRate));
  write($('up-more'), `${bytes(hub.bytesToService)} in all`);
  drawRates(s.totals);
  showAbout(hub);
}

function showAbout(hub) {
  const parts = [`dstream-hub ${hub.version}`,
    `up ${duration(hub.uptimeSeconds * 1000)}`,
    `streams ${hub.streamingEndpoints.join(', ')}`,
    `MQTT ${hub.mqttEndpoint}`];
  let bad = false;
  if (hub.certificateExpires) {
    const left = Date.parse(hub.certificateExpires) - hubNow();
    bad = left < 14 * 86400000;
    parts.push(left > 0
      ? `certificate good for ${count(Math.floor(left / 86400000), 'day',
        'days')}`
      : 'the certificate has expired');
  }
  const about = $('about');
  while (about.children.length > parts.length)
    about.lastChild.remove();
  parts.forEach((text, i) => {
    if (!about.children[i])
      about.append(make('span'));
    write(about.children[i], text);
  });
  about.lastChild.className = bad ? 'bad' : '';
}

function streamRow(stream) {
  const end = make('button',
    { type: 'button', className: 'small danger' }, 'End');
  end.setAttribute('aria-label',
    `End stream ${stream.name} of ${client(stream)}`);
  end.addEventListener('click', () => askEnd(stream));
  const spark = shape('svg', {
    class: 'spark', viewBox: '0 0 100 20', preserveAspectRatio: 'none',
    'aria-hidden': 'true'
  });
  spark.append(shape('path', { class: 'grid', d: 'M0 19H100' }),
    shape('path', {}));
  return make('tr', { role: 'row' },
    cell('', 'device', deviceButton(client(stream))),
    cell('Stream', 'stream', make('span', { className: 'id' }, stream.name)),
    cell('Caller', 'caller', stream.caller),
    cell('For', 'for'), cell('To device', 'number down'),
    cell('To service', 'number up'),
    cell('', 'rate-cell', make('div', { className: 'rate' }, spark,
      make('span'))),
    cell('', 'action', end));
}

function updateStream(row, stream, points) {
  const last = points[points.length - 1];
  const cells = row.children;
  write(cells[3], stream.state === 'running'
    ? duration(stream.durationMs) : 'being opened');
  write(cells[4], bytes(stream.bytesToDevice));
  write(cells[5], bytes(stream.bytesToService));
  write(row.querySelector('.rate span'), rate(last.downRate + last.upRate));
  drawSpark(row.querySelector('.spark'), points);
}

function showStreams(s, { items, more }) {
  const now = performance.now();
  const history = new Map();
  for (const stream of items) {
    const points = s.streams.get(stream.streamId) || [];
    remember(points, now, stream.bytesToDevice, stream.bytesToService,
      (p) => p.length <= SPARK_POINTS + 1);
    history.set(stream.streamId, points);
  }
  s.streams = history;
  items.sort((a, b) => a.since < b.since ? 1 : a.since > b.since ? -1 : 0);
  fill($('streams'), items, (stream) => 's-' + stream.streamId, streamRow,
    (row, stream) => updateStream(row, stream, history.get(stream.streamId)));
  showCount('streams', items, more);
}

function showDevices({ items, more }) {
  fill($('devices'), items, (device) => 'd-' + client(device),
    (device) => make('tr', { role: 'row' },
      cell('', 'device', deviceButton(client(device))),
      cell('', 'state-cell', make('span', { className: 'state' })),
      cell('Connected', 'since'), cell('Streams', 'number streams')),
    (row, device) => {
      const state = row.querySelector('.state');
      write(state, device.ready ? 'ready' : 'takes no streams');
      state.className = device.ready ? 'state' : 'state bad';
      write(row.children[2], `${since(device.since)} ago`);
      write(row.children[3], String(device.streams));
    });
  showCount('devices', items, more);
}

function showCount(name, items, more) {
  show($(`${name}-none`), items.length === 0);
  show($(`${name}-rest`), more);
  show($(name).closest('table'), items.length > 0);
  write($(`${name}-rest`), `The first ${items.length}; there are more.`);
}

// ---- activity ----

const WORDS = {
  request: (p) => `asked for by ${p.caller}`,
  accepted: () => 'the device accepted',
  rejected: () => 'the device rejected it',
  start: () => 'both sides are connected',
  kill: (p) => `ended by ${p.caller}`,
  refused: (p) => `from ${p.peer || 'an unknown address'}`
};

function endWords(record, p) {
  const by = p.endedBy ? `ended by ${p.endedBy}, ` : '';
  const ms = Number(record.durationMs);
  return `${by}after ${ms < 1000 ? `${ms} ms` : duration(ms)}: ` +
    `${bytes(p.bytesToDevice || 0)} to the device, ` +
    `${bytes(p.bytesToService || 0)} to the service` +
    (p.closeCode ? `, close ${p.closeCode}` : '');
}

function recordItem(record) {
  let p = {};
  try {
    p = JSON.parse(record.properties);
  } catch {
    // shown without
  }
  const bad = record.resultType !== 'Success';
  const own = p.event === 'end' ? endWords(record, p)
    : WORDS[p.event] ? WORDS[p.event](p) : '';
  const text = [own, record.resultDescription].filter(Boolean).join('; ');
  const of = (p.deviceId ? client(p) : '') +
    (p.requestName ? ` · ${p.requestName}` : '');
  const what = p.event === 'leftOut' ? 'left out' : p.event || '?';
  const item = make('li', { className: bad ? 'bad' : '' },
    make('time', { dateTime: record.time, title: record.time },
      clock(record.time)),
    make('span', { className: 'what' }, what),
    make('span', { className: 'of id' }, of),
    make('span', { className: 'text' }, text));
  item.hidden = $('failures').checked && !bad;
  return item;
}

function showRecords(records) {
  const log = $('log');
  log.prepend(...records.map(recordItem).reverse());
  while (log.children.length > LOG_MAX)
    log.lastChild.remove();
  showLogNone();
}

function showLogNone() {
  const any = [...$('log').children].some((item) => !item.hidden);
  show($('log-none'), !any);
  show($('log'), any);
}

function onFailures() {
  for (const item of $('log').children)
    item.hidden = $('failures').checked && !item.classList.contains('bad');
  showLogNone();
}

// ---- one device only ----

function setOnly(device) {
  onlyDevice = device;
  write($('only-device'), device);
  show($('only'), device !== '');
  restart();
  if (device)
    $('only-none').focus();
}

// Other questions: what is on its way is dropped.
function restart() {
  const s = session;
  if (!s)
    return;
  s.abort.abort();
  session = { ...s, cursor: '', abort: new AbortController() };
  $('log').replaceChildren();
  begin(session);
}

function begin(s) {
  repeat(s, stepNumbers);
  repeat(s, stepActivity);
}

// ---- signing in and out ----

async function signIn(event) {
  event.preventDefault();
  const button = event.submitter || $('sign-in-form').querySelector('button');
  if (button.disabled)
    return;
  write($('sign-in-error'), '');
  button.disabled = true;
  try {
    readClock(await fetch('/healthz', { cache: 'no-store' }));
    const s = await newSession($('string').value);
    s.hub = await call(s, 'GET', '/hub');
    $('string').value = '';
    session = s;
    write($('who'), `Signed in as ${s.policy}`);
    for (const [id, shown] of [['sign-in', false], ['status', true],
      ['who', true], ['sign-out', true]])
      show($(id), shown);
    setOnly('');
    $('status').focus();
  } catch (error) {
    write($('sign-in-error'), error instanceof Refused && error.status === 401
      ? 'The hub does not accept this key: it is another hub’s, was changed, ' +
        'or its policy may not look at this.'
      : error instanceof TypeError ? 'The hub can’t be reached.'
        : error.message);
    $('string').focus();
    $('string').select();
  }
  button.disabled = false;
}

function signOut(why = '') {
  if (session)
    session.abort.abort();
  session = null;
  onlyDevice = '';
  for (const dialog of document.querySelectorAll('dialog[open]'))
    dialog.close();
  for (const id of ['streams', 'devices', 'log', 'about', 'plot'])
    $(id).replaceChildren();
  for (const id of ['status', 'who', 'sign-out', 'health', 'only', 'notice'])
    show($(id), false);
  document.title = 'Device streams';
  write($('title'), 'Device streams');
  write($('sign-in-error'), why);
  show($('sign-in'), true);
  $('string').focus();
}

// ---- ending a stream ----

let toEnd = null;

function askEnd(stream) {
  toEnd = stream;
  write($('end-text'), `${stream.name} of ${client(stream)}, opened by ` +
    stream.caller);
  $('end-dialog').showModal();
}

// Two policies' worth of rights: to look may be all that this one allows.
function rightsText(s, error, doing) {
  return error.status === 401
    ? `The policy ${s.policy} may not ${doing}; sign in with another, ` +
      'such as iothubowner.'
    : error instanceof Refused ? error.message : 'The hub can’t be reached.';
}

async function endStream() {
  const s = session;
  const stream = toEnd;
  toEnd = null;
  if (!stream || !s)
    return;
  try {
    await call(s, 'DELETE', `/streams/${encodeURIComponent(stream.streamId)}`);
    write($('said'), `Stream ${stream.name} of ${client(stream)} was ended.`);
    const row = document.getElementById(`s-${stream.streamId}`);
    if (row)
      row.remove();
    $('streams-title').focus();
  } catch (error) {
    if (error instanceof Refused && error.status === 404) {
      write($('said'), 'The stream had ended already.');
      return;
    }
    s.noticeUntil = performance.now() + NOTICE_MS;
    write($('notice'), rightsText(s, error, 'end streams'));
    show($('notice'), true);
  }
}

// ---- adding a device ----

function askAdd() {
  $('add-form').reset();
  write($('add-error'), '');
  $('add-dialog').showModal();
}

// As `dstream-hub device add` prints it: ports where they are not the usual.
function deviceString(hub, device) {
  const port = (text) => Number(text.slice(text.lastIndexOf(':') + 1));
  const https = port(hub.streamingEndpoints[0]);
  const mqtt = port(hub.mqttEndpoint);
  return `HostName=${hub.name};DeviceId=${device.deviceId};SharedAccessKey=` +
    device.authentication.symmetricKey.primaryKey +
    (https === 443 ? '' : `;HttpsPort=${https}`) +
    (mqtt === 8883 ? '' : `;MqttPort=${mqtt}`);
}

async function addDevice(event) {
  event.preventDefault();
  const id = $('add-id').value.trim();
  const s = session;
  if (!id || !s) {
    write($('add-error'), 'A device needs an id.');
    return;
  }
  write($('add-error'), '');
  try {
    const device = await call(s, 'PUT', `/devices/${encodeURIComponent(id)}`,
      { deviceId: id });
    $('key-string').value = deviceString(s.hub, device);
    write($('key-device'), id);
    write($('key-said'), '');
    $('add-dialog').close();
    $('key-dialog').showModal();
  } catch (error) {
    write($('add-error'), rightsText(s, error, 'add devices'));
    $('add-id').focus();
  }
}

async function copyKey() {
  $('key-string').select();
  try {
    await navigator.clipboard.writeText($('key-string').value);
    write($('key-said'), 'Copied');
  } catch {
    write($('key-said'), 'Selected: copy it with the keyboard');
  }
}

function forgetKey() {
  $('key-string').value = '';
  $('add').focus();
}

// ---- begin ----

$('sign-in-form').addEventListener('submit', signIn);
$('sign-out').addEventListener('click', () => signOut());
$('only-none').addEventListener('click', () => {
  setOnly('');
  $('devices-title').closest('section').querySelector('button').focus();
});
$('failures').addEventListener('change', onFailures);
$('end-yes').addEventListener('click', endStream);
$('add').addEventListener('click', askAdd);
$('add-form').addEventListener('submit', addDevice);
$('add-cancel').addEventListener('click', () => $('add-dialog').close());
$('key-copy').addEventListener('click', copyKey);
$('key-dialog').addEventListener('close', forgetKey);
window.addEventListener('pagehide', () => signOut());
signOut();
