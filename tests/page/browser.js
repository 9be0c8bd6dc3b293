// A headless Chromium, spoken to over a pipe (the DevTools protocol, messages
// that end with a zero byte): nothing but node is needed.
'use strict';
const { spawn } = require('child_process');

const STEP_MS = 30000;

class Browser {
  // folder: for its profile; options: more of its command line.
  constructor(program, folder, options) {
    this.waiting = new Map();
    this.listeners = [];
    this.last = 0;
    this.child = spawn(program, ['--headless=new', '--no-sandbox',
      '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
      '--disable-background-networking', '--disable-component-update',
      '--no-proxy-server', '--hide-scrollbars', '--remote-debugging-pipe',
      `--user-data-dir=${folder}`, ...options, 'about:blank'],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    this.ended = new Promise((resolve) => this.child.once('exit', resolve));
    let text = Buffer.alloc(0);
    this.child.stdio[4].on('data', (data) => {
      text = Buffer.concat([text, data]);
      for (let at; (at = text.indexOf(0)) >= 0; text = text.subarray(at + 1))
        this.take(JSON.parse(text.subarray(0, at)));
    });
  }

  take(message) {
    const waiting = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (!waiting)
      this.listeners.forEach((fn) => fn(message.method, message.params));
    else if (message.error)
      waiting.reject(new Error(`${waiting.method}: ${message.error.message}`));
    else
      waiting.resolve(message.result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, method });
      this.child.stdio[3].write(
        JSON.stringify({ id, method, params, sessionId }) + '\0');
    });
  }

  async open(width, height) {
    const { targetId } =
      await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget',
      { targetId, flatten: true });
    const tab = new Tab(this, sessionId);
    for (const domain of ['Page', 'Runtime', 'Log', 'Accessibility'])
      await tab.send(`${domain}.enable`);
    await tab.size(width, height, false);
    return tab;
  }

  async close() {
    this.send('Browser.close').catch(() => {});
    await this.ended;
  }
}

class Tab {
  constructor(browser, sessionId) {
    this.browser = browser;
    this.sessionId = sessionId;
  }

  send(method, params) {
    return this.browser.send(method, params, this.sessionId);
  }

  size(width, height, phone) {
    return this.send('Emulation.setDeviceMetricsOverride', {
      width, height, deviceScaleFactor: phone ? 2 : 1, mobile: phone
    });
  }

  dark(dark) {
    return this.send('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme',
        value: dark ? 'dark' : 'light' }]
    });
  }

  // The value of an expression in the page; a promise is awaited.
  async ask(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression, awaitPromise: true, returnByValue: true, userGesture: true
    });
    if (exceptionDetails)
      throw new Error(`${expression}: ` +
        (exceptionDetails.exception.description || exceptionDetails.text));
    return result.value;
  }

  // Until an expression is true; returns what it is then.
  async until(expression) {
    const end = Date.now() + STEP_MS;
    for (;;) {
      const value = await this.ask(expression);
      if (value)
        return value;
      if (Date.now() > end)
        throw new Error(`not within ${STEP_MS / 1000} s: ${expression}\n` +
          await this.ask('document.body.innerText'));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  type(text) {
    return this.send('Input.insertText', { text });
  }

  async press(key) {
    const codes = { Enter: 13, Tab: 9, Escape: 27, ' ': 32 };
    const event = { key, code: key === ' ' ? 'Space' : key,
      windowsVirtualKeyCode: codes[key],
      text: key === 'Enter' ? '\r' : key === ' ' ? ' ' : undefined };
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...event });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
  }

  // PNG; whole: as long as the page is.
  async picture(whole) {
    const { data } = await this.send('Page.captureScreenshot',
      { format: 'png', captureBeyondViewport: whole });
    return Buffer.from(data, 'base64');
  }
}

module.exports = { Browser };
