// How values are written and how tables follow the data. Everything goes in as text, never as markup.

const whole = new Intl.NumberFormat('en');

export function count(value) {
  return value === null || value === undefined ? '–' : whole.format(value);
}

export function rate(value) {
  if (value === null || value === undefined) return '–';
  if (value === 0) return '0';
  if (value < 0.05) return '<0.1';
  return value < 100 ? value.toFixed(1) : whole.format(Math.round(value));
}

// Milliseconds as [number, unit].
export function time(ms) {
  if (ms === null || ms === undefined) return ['–', ''];
  if (ms < 1) return [whole.format(Math.round(ms * 1000)), 'µs'];
  if (ms < 10) return [ms.toFixed(1), 'ms'];
  if (ms < 1000) return [String(Math.round(ms)), 'ms'];
  if (ms < 10000) return [(ms / 1000).toFixed(2), 's'];
  return [(ms / 1000).toFixed(1), 's'];
}

export function span(seconds) {
  const s = Math.round(seconds);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function money(dollars) {
  if (dollars === null || dollars === undefined) return '–';
  if (dollars === 0) return '$0';
  const [sign, size] = [dollars < 0 ? '−' : '', Math.abs(dollars)];
  return `${sign}$${size.toFixed(size < 1 ? 4 : 2)}`;
}

export function share(part) {
  if (!part) return '0 %';
  return part < 0.001 ? '<0.1 %' : `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`;
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString('en-GB');
}

// Writes only what has changed, so that a selection and a reader's place stay.
export function text(node, value) {
  const words = String(value);
  if (node.textContent !== words) node.textContent = words;
}

export function all(selector, value) {
  for (const node of document.querySelectorAll(selector)) text(node, value);
}

export function attribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function make(tag, name, words) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (words !== undefined) node.textContent = words;
  return node;
}

// A number with its unit in quieter letters.
export function measure(node, ms) {
  const [number, unit] = time(ms);
  if (node.dataset.shown === number + unit) return;
  node.dataset.shown = number + unit;
  node.replaceChildren(number, make('span', 'unit', unit));
}

// Makes the rows of a table those of `list`: a row is kept by its key, filled by `fill(cells, item, row)`, and moved only
// if its place has changed. `cells` names the columns: 'th' for the row's header, 'n' for numbers, or a class.
export function rows(table, list, keyOf, cells, fill) {
  const body = table.tBodies[0];
  const known = new Map();
  for (const row of body.rows) known.set(row.dataset.key, row);
  list.forEach((item, at) => {
    const key = keyOf(item);
    let row = known.get(key);
    known.delete(key);
    if (!row) {
      row = document.createElement('tr');
      row.dataset.key = key;
      for (const kind of cells) {
        const cell = row.appendChild(document.createElement(kind === 'th' ? 'th' : 'td'));
        if (kind === 'th') cell.scope = 'row';
        else cell.className = kind;
      }
    }
    fill([...row.cells], item, row);
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] || null);
  });
  for (const row of known.values()) row.remove();
  const region = table.closest('.scroll');
  const empty = region.parentElement.querySelector('.empty');
  if (empty) {
    empty.hidden = list.length > 0;
    region.hidden = list.length === 0;
  }
}

// A count in its cell, quiet if it is none.
export function tally(cell, value, bad) {
  text(cell, count(value));
  cell.classList.toggle('zero', !value);
  cell.classList.toggle('bad', Boolean(bad && value));
}

// A word that is good or bad, which its sign says too.
export function state(cell, is, words, more) {
  let word = cell.querySelector('.state');
  if (!word) {
    word = cell.appendChild(make('span', 'state'));
    cell.appendChild(make('span', 'sub words'));
  }
  attribute(word, 'data-is', is);
  text(word, words);
  const sub = cell.querySelector('.sub');
  text(sub, more || '');
  sub.hidden = !more;
}

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [240, 44];

// A line through `values` (null: nothing was measured), the newest at the right, of `room` places.
export function spark(svg, values, room, label) {
  attribute(svg, 'aria-label', label);
  const most = Math.max(...values.map((value) => value || 0), 1e-9);
  const point = (value, at) => {
    const x = WIDTH - (values.length - 1 - at) * (WIDTH / (room - 1));
    return `${x.toFixed(1)} ${(HEIGHT - 2 - (value / most) * (HEIGHT - 6)).toFixed(1)}`;
  };
  let [line, area, run] = ['', '', []];
  const close = () => {
    if (run.length > 1) {
      line += `M${run.join('L')}`;
      const [first, last] = [run[0], run[run.length - 1]].map((p) => p.split(' ')[0]);
      area += `M${first} ${HEIGHT - 2}L${run.join('L')}L${last} ${HEIGHT - 2}Z`;
    }
    run = [];
  };
  values.forEach((value, at) => (value === null ? close() : run.push(point(value, at))));
  close();
  if (!svg.firstChild) {
    for (const kind of ['base', 'area', 'line']) {
      svg.appendChild(document.createElementNS(SVG, 'path')).setAttribute('class', kind);
    }
    svg.children[0].setAttribute('d', `M0 ${HEIGHT - 1.5}H${WIDTH}`);
  }
  svg.children[1].setAttribute('d', area);
  svg.children[2].setAttribute('d', line);
}
