// A real Chromium, driven by lines of JSON: {'open': URL} goes there, {'run': FUNCTION, 'with': ARGUMENT} runs in the
// page, {'picture': FILE} keeps how it looks, {'click': SELECTOR} clicks (and with 'opens' goes on in the tab that this
// opens), {'fill': SELECTOR, 'text': TEXT} types, {'await': TEXT} waits until it is shown, {'text': SELECTOR} reads,
// {'back': true} closes the tab and goes on in the one before, {'look': {WIDTH, THEME}} changes how it is looked at, and
// {'problems': true} tells what was on the console. Each is answered by a line: {'value': ...} or {'failed': REASON}. It
// ends with its stdin.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [executablePath, folder, names, javaScript] = process.argv.slice(2);
const context = await chromium.launchPersistentContext(folder, {
  executablePath,
  headless: true,
  javaScriptEnabled: javaScript !== 'off',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    `--host-resolver-rules=${names}`,
  ],
});
const tabs = [context.pages()[0] ?? (await context.newPage())];
const problems = [];
function listen(page) {
  page.on('console', (line) => ['error', 'warning'].includes(line.type()) && problems.push(line.text()));
  page.on('pageerror', (fault) => problems.push(String(fault)));
}
tabs.forEach(listen);
context.on('page', listen);

async function obey(order) {
  const page = tabs.at(-1);
  if (order.open) {
    const answer = await page.goto(order.open);
    return { status: answer?.status() ?? null, text: await page.content() };
  }
  if (order.picture) return void (await page.screenshot({ path: order.picture, fullPage: true }));
  if (order.click && !order.opens) return void (await page.locator(order.click).first().click());
  if (order.click) {
    const opened = page.waitForEvent('popup');
    await page.locator(order.click).first().click();
    tabs.push(await opened);
    return void (await tabs.at(-1).waitForLoadState());
  }
  if (order.fill) return void (await page.locator(order.fill).first().fill(order.text));
  if (order.await) return void (await page.getByText(order.await).first().waitFor());
  if (order.text) return await page.locator(order.text).first().innerText();
  if (order.back) {
    await tabs.pop().close();
    return void (await tabs.at(-1).bringToFront());
  }
  if (order.look) {
    await page.setViewportSize({ width: order.look.width, height: 800 });
    return void (await page.emulateMedia({ colorScheme: order.look.theme }));
  }
  if (order.problems) return problems.splice(0);
  return await page.evaluate(`(${order.run})(${JSON.stringify(order.with ?? null)})`);
}

process.stdout.write(JSON.stringify({ value: context.browser()?.version() ?? null }) + '\n');
for await (const line of createInterface({ input: process.stdin })) {
  let told;
  try {
    told = { value: (await obey(JSON.parse(line))) ?? null };
  } catch (fault) {
    told = { failed: String(fault) };
  }
  process.stdout.write(JSON.stringify(told) + '\n');
}
await context.close();
