// A real Chromium, driven by lines of JSON: {'open': URL} goes there, {'run': FUNCTION, 'with': ARGUMENT} runs in the
// page, {'picture': FILE} keeps how it looks. Each is answered by a line: {'value': ...} or {'failed': REASON}. It ends with its stdin.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [executablePath, folder, names] = process.argv.slice(2);
const context = await chromium.launchPersistentContext(folder, {
  executablePath,
  headless: true,
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
const page = context.pages()[0] ?? (await context.newPage());

async function obey({ open, run, with: argument, picture }) {
  if (open) {
    const answer = await page.goto(open);
    return { status: answer?.status() ?? null, text: await page.content() };
  }
  if (picture) return void (await page.screenshot({ path: picture }));
  return await page.evaluate(`(${run})(${JSON.stringify(argument ?? null)})`);
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
