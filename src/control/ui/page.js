// The page of an operator: follows /ui/events and writes each document into the tables.
//
// fetch() reads the events, because EventSource cannot show a token. The token lives in sessionStorage only. While the tab
// is hidden nothing is asked for. A connection that is lost is said, and tried again after 1 to 10 seconds.

import * as show from '/ui/show.js';

const byId = (id) => document.getElementById(id);
const ROOM = 90; // seconds in the lines
const SILENT_MS = 6000; // a second passes between documents
const TOKEN = 'corelane-admin-token';

const lines = { rate: [], latency: [] };
let stop = null; // ends the stream that is read
let wake = null; // ends the wait before the next try
let last = 0; // when the numbers that are shown were read
let message = 0; // a message of an action stays for a while

function token() {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch {
    return null; // storage may be denied
  }
}

function ask(path, options = {}) {
  const shown = token();
  const headers = { ...options.headers };
  if (shown) headers.authorization = `Bearer ${shown}`;
  return fetch(path, { ...options, headers, cache: 'no-store', credentials: 'omit', redirect: 'error' });
}

async function sentence(answer) {
  const value = await answer.json().catch(() => ({}));
  const error = value.error;
  if (typeof error === 'string') return error;
  return error && typeof error.message === 'string' ? error.message : `The gateway answered ${answer.status}.`;
}

// The one place that speaks to readers of screens by itself: it changes when the state does, not with every number.
function say(state, words) {
  show.attribute(byId('status'), 'data-state', state);
  show.text(byId('status-text'), words);
  document.body.classList.toggle('stale', state === 'lost');
}

function act(words) {
  show.text(byId('status-text'), words);
  message = Date.now() + 4000;
}

// ---- one document

function now(live) {
  show.all('[data-now=window]', `the last ${show.span(live.window_s)}`);
  show.all('[data-now=rate_window]', `the last ${show.span(live.rate_s)}`);
  show.all('[data-now=requests_s]', show.rate(live.requests_s));
  show.all('[data-now=errors_s]', show.rate(live.errors_s));
  show.all('[data-now=requests]', show.count(live.requests));
  const part = live.requests ? live.errors / live.requests : 0;
  show.all('[data-now=error_share]', `${show.share(part)} of all over the last ${show.span(live.window_s)}`);
  const bad = Object.entries(live.statuses).filter(([status]) => status !== '200');
  show.all('[data-now=statuses]', bad.map(([status, n]) => `${show.count(n)} × ${status}`).join(', '));
  show.measure(document.querySelector('[data-now=p95]'), live.latency_ms.p95);
  show.all('[data-now=exchanges]', show.count(live.exchanges));
  show.all('[data-now=waiting]', `${show.count(live.waiting)} in line`);
  show.all('[data-now=connections]', `${show.count(live.connections)} connection${live.connections === 1 ? '' : 's'}`);
  const times = [
    ['Latency', live.latency_ms],
    ['First token', live.first_token_ms],
    ['Own share', live.overhead_ms],
  ];
  show.rows(byId('times'), times, (row) => row[0], ['th', 'n', 'n', 'n', 'n'], (cells, [name, of]) => {
    show.text(cells[0], name);
    [of.p50, of.p95, of.p99].forEach((ms, at) => show.text(cells[at + 1], show.time(ms).join(' ').trim()));
    show.tally(cells[4], of.count);
  });
}

function draw(live) {
  for (const [line, value] of [[lines.rate, live.requests_s], [lines.latency, live.latency_ms.p95]]) {
    line.push(value);
    if (line.length > ROOM) line.shift();
  }
  const words = (line, write) => {
    const known = line.filter((value) => value !== null);
    if (!known.length) return 'nothing yet';
    return `now ${write(known[known.length - 1])}, least ${write(Math.min(...known))}, most ${write(Math.max(...known))}`;
  };
  const of = `last ${show.span(Math.max(lines.rate.length, 1))}`;
  show.spark(byId('spark-rate'), lines.rate, ROOM, `Requests in a second, ${of}: ${words(lines.rate, show.rate)}`);
  const write = (ms) => show.time(ms).join(' ');
  show.spark(byId('spark-latency'), lines.latency, ROOM, `95th percentile of latency, ${of}: ${words(lines.latency, write)}`);
}

const HEALTH = { healthy: 'good', unhealthy: 'bad', unknown: 'unknown' };

function showBreaker(cell, of) {
  const why = (of.reason || '').replaceAll('_', ' ');
  if (of.state === 'closed') return show.state(cell, 'good', 'closed');
  if (of.state === 'open') {
    const wait = of.retry_in_ms === undefined ? '' : `, a trial in ${show.span(of.retry_in_ms / 1000)}`;
    return show.state(cell, 'bad', 'open', why + wait);
  }
  return show.state(cell, 'warn', 'half-open', why);
}

function endpoints(live) {
  const columns = ['th', '', '', '', 'n', 'n', 'n'];
  show.rows(byId('endpoints'), live.endpoints, (one) => one.name, columns, (cells, one, row) => {
    show.attribute(row, 'data-off', String(one.disabled));
    const [name, lever, health, breaker, flight, good, failed] = cells;
    if (!name.firstChild) {
      name.append(show.make('span'), show.make('span', 'sub'));
      lever.append(makeLever(one.name));
    }
    show.text(name.children[0], one.name);
    show.text(name.children[1], one.url);
    show.state(health, HEALTH[one.health], one.health, one.last_error);
    showBreaker(breaker, one.breaker);
    show.text(flight, one.slots ? `${one.in_flight} of ${one.slots}` : show.count(one.in_flight));
    flight.classList.toggle('zero', !one.in_flight);
    show.text(good, show.rate(one.success_s));
    good.classList.toggle('zero', !one.success_s);
    show.text(failed, show.rate(one.failure_s));
    failed.classList.toggle('zero', !one.failure_s);
    failed.classList.toggle('bad', one.failure_s > 0);
    turn(lever.firstChild, !one.disabled);
  });
}

function makeLever(name) {
  const button = show.make('button', 'switch');
  button.type = 'button';
  button.setAttribute('role', 'switch');
  button.setAttribute('aria-label', `${name} takes requests`);
  const rail = show.make('span', 'rail');
  rail.setAttribute('aria-hidden', 'true');
  button.append(rail, show.make('span'));
  button.addEventListener('click', () => pull(button, name));
  return button;
}

function turn(button, on) {
  if (button.dataset.busy) return;
  show.attribute(button, 'aria-checked', String(on));
  show.text(button.lastChild, on ? 'yes' : 'disabled');
}

async function pull(button, name) {
  if (button.dataset.busy) return;
  const verb = button.getAttribute('aria-checked') === 'true' ? 'disable' : 'enable';
  button.dataset.busy = 'yes';
  try {
    const answer = await ask(`/endpoints/${encodeURIComponent(name)}/${verb}`, { method: 'POST' });
    delete button.dataset.busy;
    if (!answer.ok) return act(`Endpoint ${name} was not changed: ${await sentence(answer)}`);
    turn(button, !(await answer.json()).disabled);
    act(`Endpoint ${name} is ${verb}d.`);
  } catch {
    act(`Endpoint ${name} was not changed: no answer.`);
  } finally {
    delete button.dataset.busy;
  }
}

function tables(live) {
  show.rows(byId('shards'), live.shards, (one) => String(one.shard), ['th', '', 'n', 'n', 'n'], (cells, one) => {
    show.text(cells[0], one.shard);
    show.text(cells[1], one.driver);
    show.tally(cells[2], one.exchanges);
    show.tally(cells[3], one.streams);
    show.tally(cells[4], one.connections);
  });
  show.rows(byId('models'), live.models, (one) => one.name, ['th', 'n', 'n', 'n', 'n', 'n', 'n'], (cells, one) => {
    show.text(cells[0], one.name);
    show.text(cells[1], show.rate(one.requests_s));
    cells[1].classList.toggle('zero', !one.requests_s);
    show.tally(cells[2], one.requests);
    show.text(cells[3], show.share(one.error_share));
    cells[3].classList.toggle('zero', !one.error_share);
    cells[3].classList.toggle('bad', one.error_share > 0);
    show.tally(cells[4], one.tokens_input);
    show.tally(cells[5], one.tokens_output);
    show.text(cells[6], show.money(one.cost));
    cells[6].classList.toggle('zero', !one.cost);
  });
  const direction = { input: 'requests', output: 'answers' };
  const found = (one) => `${one.scanner} ${one.direction}`;
  show.rows(byId('guard'), live.guard, found, ['th', '', 'n', 'n', 'n', 'n', 'n'], (cells, one) => {
    show.text(cells[0], one.scanner);
    show.text(cells[1], direction[one.direction]);
    ['pass', 'monitor', 'redact', 'block', 'error'].forEach((verdict, at) => {
      show.tally(cells[at + 2], one[verdict], verdict === 'block' || verdict === 'error');
    });
  });
  show.rows(byId('keys'), live.keys, (one) => one.name, ['th', 'n', 'n', 'n', 'n', 'n'], (cells, one) => {
    show.text(cells[0], one.name);
    show.tally(cells[1], one.requests);
    show.tally(cells[2], one.tokens_input);
    show.tally(cells[3], one.tokens_output);
    show.text(cells[4], show.money(one.cost));
    show.text(cells[5], one.budget ? `${show.money(one.budget_left)} of ${show.money(one.budget)}` : '–');
    cells[5].classList.toggle('bad', Boolean(one.budget) && one.budget_left <= 0);
  });
  const which = (one) => `${one.time_ms} ${one.request_id} ${one.status}`;
  show.rows(byId('failures'), live.failures, which, ['', 'n', 'id', '', '', '', 'words'], (cells, one) => {
    show.text(cells[0], show.clock(one.time_ms));
    cells[0].title = new Date(one.time_ms).toISOString();
    show.text(cells[1], one.status);
    cells[1].classList.toggle('bad', one.status >= 500);
    show.text(cells[2], one.request_id);
    show.attribute(cells[2], 'title', one.request_id);
    [one.model, one.endpoint, one.key].forEach((name, at) => show.text(cells[at + 3], name || '–'));
    show.text(cells[6], one.error || '–');
  });
}

function choices(live) {
  const fill = (node, names, more) => {
    const key = names.join('\n');
    if (node.dataset.names === key) return;
    node.dataset.names = key;
    const chosen = node.value;
    const options = names.map((name) => {
      const option = document.createElement('option');
      option.value = name;
      option.textContent = name;
      return option;
    });
    node.replaceChildren(...more, ...options);
    if (chosen) node.value = chosen;
  };
  fill(byId('ex-models'), live.models.map((one) => one.name), []);
  fill(byId('ex-key'), live.keys.map((one) => one.name), [...byId('ex-key').options].slice(0, 1));
  const model = byId('ex-model');
  if (!model.dataset.touched && !model.value && live.models.length) model.value = live.models[0].name;
}

function write(live) {
  document.body.classList.remove('waiting');
  last = live.time_ms;
  now(live);
  draw(live);
  endpoints(live);
  tables(live);
  choices(live);
  show.all('[data-fact=version]', live.version);
  show.all('[data-fact=uptime]', show.span(live.uptime_s));
  show.all('[data-fact=generation]', `no. ${live.generation}`);
  show.all('[data-fact=time]', show.clock(live.time_ms));
  if (Date.now() > message) {
    if (live.draining) say('drain', 'Draining: no new work is taken');
    else say('live', 'Live');
  }
}

// ---- the stream

async function follow() {
  const aborter = new AbortController();
  stop = () => aborter.abort();
  let silence = setTimeout(stop, SILENT_MS);
  try {
    const answer = await ask('/ui/events', { signal: aborter.signal });
    if (answer.status === 401) return 'token';
    if (!answer.ok) throw new Error(await sentence(answer));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return 'ended';
      clearTimeout(silence);
      silence = setTimeout(stop, SILENT_MS);
      const events = (held + value).split('\n\n');
      held = events.pop();
      for (const event of events) if (event.startsWith('data: ')) write(JSON.parse(event.slice(6)));
    }
  } finally {
    clearTimeout(silence);
    stop = null;
    aborter.abort();
  }
}

const wait = (ms) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  wake = () => {
    clearTimeout(timer);
    done();
  };
});

async function run() {
  let tries = 0;
  for (;;) {
    if (document.hidden) {
      say('wait', 'Paused while this tab is hidden');
      await new Promise((shown) => document.addEventListener('visibilitychange', shown, { once: true }));
      continue;
    }
    const began = Date.now();
    let why = '';
    try {
      const end = await follow();
      if (end === 'token') {
        await askToken();
        continue;
      }
    } catch (error) {
      if (document.hidden) continue;
      why = error instanceof TypeError || error.name === 'AbortError' ? '' : ` ${error.message}`;
    }
    tries = Date.now() - began > 5000 ? 1 : tries + 1;
    const pause = Math.min(tries * tries, 10);
    const old = last ? ` The numbers are of ${show.clock(last)}.` : '';
    say('lost', `Connection lost.${why}${old} Trying again in ${pause} s`);
    await wait(pause * 1000);
  }
}

function askToken() {
  const form = byId('token-form');
  const wrong = Boolean(token());
  say('wait', wrong ? 'That token does not open this gateway' : 'The admin token is needed');
  form.hidden = false;
  byId('token').focus();
  return new Promise((given) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      try {
        sessionStorage.setItem(TOKEN, byId('token').value);
      } catch {
        say('wait', 'This browser keeps nothing for the page: the token cannot be used');
        return;
      }
      byId('token').value = '';
      form.hidden = true;
      byId('main').focus();
      say('wait', 'Connecting…');
      given();
    };
  });
}

// ---- where would this go

// A body that the path's API takes.
function bodyFor(path, model, prompt) {
  if (/\/(chat\/completions|chat|messages)$/.test(path)) {
    return { model, messages: [{ role: 'user', content: prompt }] };
  }
  return /\/(embeddings|embed|responses)$/.test(path) ? { model, input: prompt } : { model, prompt };
}

function words(value) {
  if (value === null || value === undefined) return '';
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return value.map(words).join(', ');
  return Object.entries(value).filter(([, of]) => of !== null).map(([name, of]) => `${name}: ${words(of)}`).join(', ');
}

// What the gateway answers: `would` and `error` as sentences, then each step with its result, its reason, and whatever else
// it says.
function explained(value) {
  const parts = [];
  if (typeof value.would === 'string') parts.push(show.make('p', 'would', `It would ${value.would}.`));
  if (typeof value.error === 'string') parts.push(show.make('p', 'sorry', value.error));
  const place = ['endpoint', 'model'].filter((name) => value[name]).map((name) => `${name} ${words(value[name])}`);
  if (place.length) parts.push(show.make('p', '', `To ${place.join(', ')}`));
  const list = show.make('ol');
  for (const one of Array.isArray(value.steps) ? value.steps : []) {
    const { step, result, why, ...more } = one;
    const item = list.appendChild(show.make('li'));
    item.append(show.make('strong', '', words(step)), ` ${words(result)}`);
    if (why) item.append(show.make('span', 'why', ` – ${words(why)}`));
    if (Object.keys(more).length) item.append(show.make('span', 'sub why', words(more)));
  }
  if (list.firstChild) parts.push(list);
  if (!parts.length) parts.push(show.make('p', '', words(value) || 'The gateway said nothing.'));
  byId('explained').replaceChildren(...parts);
}

async function explain(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const [model, key, path, prompt] = ['model', 'key', 'path', 'prompt'].map((name) => form.elements[name].value);
  const question = { path, key: key || null, body: bodyFor(path, model, prompt) };
  const button = form.querySelector('button');
  const sorry = (why) => byId('explained').replaceChildren(show.make('p', 'sorry', why));
  button.disabled = true;
  try {
    const headers = { 'content-type': 'application/json' };
    const answer = await ask('/explain', { method: 'POST', headers, body: JSON.stringify(question) });
    if (answer.status === 404) sorry('This gateway cannot explain where a request would go.');
    else if (!answer.ok) sorry(await sentence(answer));
    else explained(await answer.json());
  } catch {
    sorry('No answer came from the gateway.');
  } finally {
    button.disabled = false;
  }
}

byId('explain').addEventListener('submit', explain);
byId('ex-model').addEventListener('input', (event) => { event.target.dataset.touched = 'yes'; });
document.addEventListener('visibilitychange', () => {
  if (document.hidden && stop) stop();
  if (!document.hidden && wake) wake();
});
run();
