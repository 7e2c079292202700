// What is smoother with JavaScript. Every page works without it.
'use strict';

// Copy buttons are shown only where they can work.
function showCopying(root) {
  for (const button of root.querySelectorAll('button[data-copy]')) button.hidden = !navigator.clipboard;
}
document.addEventListener('click', async (event) => {
  const button = event.target.closest?.('button[data-copy]');
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const label = button.textContent;
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = label; }, 1500);
});

// Relative times tick.
const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
function span(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [size, unit] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(' ') || '0 s';
}
function tick() {
  if (document.hidden) return;
  for (const time of document.querySelectorAll('time[datetime]:not([data-clock])')) {
    const ahead = (Date.parse(time.dateTime) - Date.now()) / 1000;
    const said = ahead >= 0 ? `in ${span(ahead)}` : `${span(-ahead)} ago`;
    if (time.textContent !== said) time.textContent = said;
  }
}
setInterval(tick, 1000);

// Times of day, and those that a form takes, are of the browser's time zone.
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
function localise() {
  for (const time of document.querySelectorAll('time[data-clock]')) {
    const at = new Date(time.dateTime), day = at.toDateString() === new Date().toDateString() ? {} : { day: 'numeric', month: 'short' };
    time.textContent = at.toLocaleString([], { ...day, hour: '2-digit', minute: '2-digit' });
  }
  for (const field of document.querySelectorAll('[data-zone]')) field.value = ZONE;
  for (const name of document.querySelectorAll('[data-zone-name]')) name.textContent = `this browser (${ZONE})`;
}

// A bar says since when the page isn't live.
const lost = document.getElementById('lost');
document.addEventListener('htmx:sse:error', (event) => {
  if (event.detail.status === 401) location.reload();  // the session has ended: sign in
  if (!lost.hidden) return;
  lost.textContent = `Not live since ${new Date().toLocaleTimeString()}; trying again.`;
  lost.hidden = false;
});
document.addEventListener('htmx:sse:after:connection', () => { lost.hidden = true; });

// What a person pastes into a field for it is sent at once.
document.addEventListener('paste', (event) => {
  const field = event.target.closest?.('[data-send-on-paste]');
  if (field) setTimeout(() => field.form.requestSubmit());
});

document.querySelector('.fault')?.focus();
function smooth() {
  showCopying(document);
  localise();
}
smooth();
document.addEventListener('htmx:after:swap', smooth);
