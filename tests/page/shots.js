// Pictures of the status page, for docs/ and to look at: see shots.sh.
//
//   node shots.js URL CHROMIUM FOLDER SPKI-HASH OUT SECONDS
'use strict';
const fs = require('fs');
const path = require('path');
const { Browser } = require('./browser.js');

const [url, program, folder, spki, out, seconds] = process.argv.slice(2);

async function run() {
  const browser = new Browser(program, folder,
    [`--ignore-certificate-errors-spki-list=${spki}`]);
  const tab = await browser.open(1200, 900);
  const save = async (name, whole) => fs.writeFileSync(
    path.join(out, `${name}.png`), await tab.picture(whole));
  const all = async (name) => {
    for (const [dark, scheme] of [[false, 'light'], [true, 'dark']]) {
      await tab.dark(dark);
      for (const [width, height, phone] of [[1200, 900, false],
        [390, 844, true]]) {
        await tab.size(width, height, phone);
        await new Promise((resolve) => setTimeout(resolve, 300));
        await save(`${name}-${phone ? 'phone' : 'desktop'}-${scheme}`,
          /status|only/.test(name));
      }
    }
    await tab.size(1200, 900, false);
    await tab.dark(false);
  };
  const open = (id) => tab.ask(`document.getElementById('${id}').open`);
  await tab.send('Page.navigate', { url });
  await tab.until('(document.activeElement || {}).id === "string"');
  await tab.type('hello');
  await tab.press('Enter');
  await tab.until('document.getElementById("sign-in-error").textContent');
  await all('sign-in');
  await tab.ask('document.getElementById("string").select()');
  await tab.type(process.env.OWNER_STRING);
  await tab.press('Enter');
  await tab.until('document.querySelector("#streams tr")');
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  await tab.size(1100, 1000, false);
  await save('docs', false);
  await all('status');
  await tab.ask('document.querySelector("#streams .danger").focus()');
  await tab.press('Enter');
  await all('end');
  await tab.press('Escape');
  await tab.ask('document.getElementById("add").focus()');
  await tab.press('Enter');
  await all('add');
  await tab.type('pump-9');
  await tab.press('Enter');
  while (!await open('key-dialog'))
    await new Promise((resolve) => setTimeout(resolve, 50));
  await tab.press('Enter');
  await all('key');
  await tab.press('Escape');
  await tab.ask('document.querySelector("#streams .link").focus()');
  await tab.press('Enter');
  await tab.until('document.querySelector("#log li")');
  await all('only');
  await browser.close();
}

run().then(() => console.log('done'), (error) => {
  console.error(error);
  process.exit(1);
});
