// Draws the time series with uPlot, over the same numbers as the picture that the page has without JavaScript.
'use strict';
{
  const resolved = (name) => {
    const probe = document.createElement('span');
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  // Steps of the vertical axis, in requests, tokens or cents: each label is another one.
  const STEPS = Array.from({ length: 39 }, (_, at) => [1, 2, 5][at % 3] * 10 ** Math.floor(at / 3));
  const place = document.getElementById('plot');
  let plot = null;
  let drawn = '';

  function short(value, of) {
    if (value == null) return '-';
    if (of === 'cost') return `$${value.toFixed(value < 10 ? 2 : 0)}`;
    for (const [size, unit] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) if (value >= size) return `${(value / size).toFixed(1)}${unit}`;
    return String(Math.round(value));
  }

  // A day's name at its beginning, else the time of day.
  function when(at, unit) {
    const date = new Date(at * 1000);
    const two = (number) => String(number).padStart(2, '0');
    if (unit === 'days') return `${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`;
    const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
    return time === '00:00' ? `${two(date.getMonth() + 1)}-${two(date.getDate())}` : time;
  }

  // A bar stands for what follows its time, so the last one needs room.
  const UNITS_OF = { minutes: 60, hours: 3600, days: 86400 };

  // uPlot has no stacks: each line is drawn as the sum of those below it, the highest first.
  function draw() {
    const source = document.getElementById('series');
    if (!place || !window.uPlot || !source) return;
    const text = source.dataset.series;
    if (text === drawn && plot && plot.width === width()) return;
    drawn = text;
    const series = JSON.parse(text);
    const sums = [];
    series.lines.forEach(([, values], at) => sums.push(values.map((value, i) => value + (at ? sums[at - 1][i] : 0))));
    const order = series.lines.map((_, at) => at).reverse();
    const soft = resolved('--soft'), line = resolved('--line');
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: '12px system-ui' };
    plot?.destroy();
    place.hidden = false;
    plot = new uPlot({
      width: width(), height: 190,
      tzDate: series.unit === 'days' ? (at) => uPlot.tzDate(new Date(at * 1000), 'Etc/UTC') : undefined,
      legend: { show: true, live: true },
      cursor: { points: { show: false }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { range: (_, from, to) => [from, to + UNITS_OF[series.unit]] }, y: { range: (_, __, most) => [0, Math.max(most * 1.05, series.of === 'cost' ? 0.01 : 1)] } },
      axes: [{ ...axis, values: (_, all) => all.map((at) => when(at, series.unit)) }, { ...axis, size: 56, incrs: series.of === 'cost' ? STEPS.map((step) => step / 100) : STEPS, values: (_, all) => all.map((value) => short(value, series.of)) }],
      series: [{ value: '{YYYY}-{MM}-{DD} {HH}:{mm}' }, ...order.map((at) => ({
        label: series.lines[at][0],
        stroke: resolved(`--c${at % 8 + 1}`), fill: resolved(`--c${at % 8 + 1}`), width: 0,
        paths: uPlot.paths.bars({ size: [0.8, 60], align: 1 }),
        points: { show: false },
        value: (_, __, ___, i) => (i == null ? '' : short(series.lines[at][1][i], series.of)),
      }))],
      hooks: { setSelect: [zoom] },
    }, [series.starts, ...order.map((at) => sums[at])], place);
    document.body.classList.add('has-plot');
  }
  function width() { return Math.max(260, place.clientWidth - 8); }

  // A stretch that is marked with the pointer becomes the page's time.
  function zoom(self) {
    if (self.select.width < 4) return;
    const from = Math.round(self.posToVal(self.select.left, 'x') * 1000);
    const to = Math.round(self.posToVal(self.select.left + self.select.width, 'x') * 1000);
    const query = new URLSearchParams(location.search);
    for (const name of ['range', 'behind']) query.delete(name);
    query.set('since', from);
    query.set('until', to);
    location.search = query;
  }

  function again() { drawn = ''; draw(); }
  draw();
  document.addEventListener('htmx:after:swap', draw);
  addEventListener('resize', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
}
