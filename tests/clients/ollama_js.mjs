// The Ollama client for JavaScript, against the gateway at CORELANE_URL.
// Each function is one promise of the gateway; the first that breaks ends the run with a stack.

import assert from "node:assert/strict";
import { Ollama } from "ollama";
const { documented } = await import(`${process.env.CORELANE_SCRIPTS}/documented.mjs`);

const client = new Ollama({ host: process.env.CORELANE_URL });
const model = "llama3.2";
const messages = [{ role: "user", content: "Hello" }];

/** The parts of a stream, after checking what every stream promises. */
async function read(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  assert.ok(parts.length > 1, "a stream has parts");
  assert.ok(parts.every((part) => part.model === model), "every part names the model asked for");
  assert.deepEqual(parts.filter((part) => part.done), parts.slice(-1), "done comes last, once");
  return parts;
}

/** The error that `act` rejects with. */
const rejects = (act) =>
  act().then((value) => assert.fail(`an error expected, got ${JSON.stringify(value)}`), (reason) => reason);

async function chat() {
  const whole = await client.chat({ model, messages });
  assert.equal(whole.model, model);
  assert.match(whole.message.content, /^You said: Hello/);
  assert.equal(whole.done_reason, "stop");
  const parts = await read(await client.chat({ model, messages, stream: true }));
  assert.equal(parts.map((part) => part.message.content).join(""), whole.message.content);
  assert.ok(parts.at(-1).eval_count > 1 && parts.at(-1).total_duration > 0, "counters come last");
  const prefixed = await client.chat({ model: `ollama/${model}`, messages });
  assert.equal(prefixed.message.content, whole.message.content, "the other spelling of the model");
}

async function generate() {
  const whole = await client.generate({ model, prompt: "Hello" });
  assert.match(whole.response, /^You said: Hello/);
  const parts = await read(await client.generate({ model, prompt: "Hello", stream: true }));
  assert.equal(parts.map((part) => part.response).join(""), whole.response);
  const json = await client.generate({ model, prompt: "Hello", format: "json" });
  assert.match(JSON.parse(json.response).answer, /^You said: Hello/);
  const loaded = await client.generate({ model, prompt: "" });
  assert.equal(loaded.done_reason, "load", "an empty prompt only loads");
}

async function embeddings() {
  const { embeddings } = await client.embed({ model: "nomic-embed-text", input: ["one", "two"] });
  assert.deepEqual(embeddings.map((numbers) => numbers.length), [8, 8]);
  const { embedding } = await client.embeddings({ model: "nomic-embed-text", prompt: "one" });
  assert.deepEqual(embedding, embeddings[0]);
}

async function listings() {
  const { models } = await client.list();
  const listed = models.find((entry) => entry.name.startsWith(model));
  assert.ok(listed.digest && listed.size && listed.details.format && listed.modified_at, JSON.stringify(listed));
  const shown = await client.show({ model });
  assert.ok(shown.capabilities.includes("completion") && shown.template, JSON.stringify(shown));
  const running = (await client.ps()).models.map((entry) => entry.name);
  assert.ok(running.some((name) => name.startsWith(model)), `${running}`);
  assert.match((await client.version()).version, /^\d+\.\d+/);
}

async function tools() {
  const ask = {
    model,
    messages: [{ role: "user", content: "What is the weather?" }],
    tools: [{ type: "function", function: { name: "get_weather", description: "", parameters: { type: "object" } } }],
  };
  const called = { name: "get_weather", arguments: { city: "Paris" } };
  assert.deepEqual((await client.chat(ask)).message.tool_calls[0].function, called);
  const parts = await read(await client.chat({ ...ask, stream: true }));
  assert.deepEqual(parts.flatMap((part) => part.message.tool_calls ?? []).map((call) => call.function), [called]);
}

async function thinking() {
  const { message } = await client.chat({ model: "think", messages, think: true });
  assert.equal(message.thinking, "Let me think.");
  assert.match(message.content, /^You said: Hello/);
}

async function errors() {
  const unknown = await rejects(() => client.chat({ model: "nothing", messages }));
  assert.equal(unknown.status_code, 404, `${unknown}`);
  assert.match(unknown.error, /nothing/, "the error is a text and names the model");
  const failed = await rejects(() => client.generate({ model: "fault-500", prompt: "Hello" }));
  assert.equal(failed.status_code, 500, `${failed}`);
  assert.equal(failed.error, "simulated failure", "the endpoint's words");
}

async function brokenStreams() {
  for (const fault of ["error-event", "cut", "nodone", "garbage", "chunk-garbage"]) {
    const drain = async () => {
      for await (const part of await client.chat({ model: `fault-${fault}`, messages, stream: true })) {
        assert.ok(!part.done, `${fault}: an invented end`);
      }
    };
    const error = await rejects(drain);
    assert.notEqual(error.code, "ERR_ASSERTION", `${error}`);
  }
}

async function guarded() {
  const asked = (content) => ({ model, messages: [{ role: "user", content }] });
  const refused = await rejects(() => client.chat(asked("forbidden question")));
  assert.equal(refused.status_code, 400, `${refused}`);
  let text = "";
  const cut = await rejects(async () => {
    for await (const part of await client.chat({ ...asked("a forbidden answer"), stream: true })) text += part.message.content;
  });
  assert.match(cut.message, /answer was blocked/);
  assert.doesNotMatch(text, /forbidden/);
}

async function cancellation() {
  const drain = async () => {
    for await (const _ of await client.chat({ model, messages, stream: true })) client.abort();
  };
  assert.equal((await rejects(drain)).name, "AbortError");
  const hasty = (url, options) => fetch(url, { ...options, signal: AbortSignal.timeout(300) });
  const hanging = new Ollama({ host: process.env.CORELANE_URL, fetch: hasty });
  assert.equal((await rejects(() => hanging.chat({ model: "fault-hang", messages }))).name, "TimeoutError");
}

const snippet = () => documented("Ollama SDK, JavaScript", import.meta.url);

const promises = [
  chat, generate, embeddings, listings, tools, thinking, errors, brokenStreams, guarded, cancellation, snippet,
];
for (const promise of promises) {
  console.log(promise.name);
  await promise();
}
