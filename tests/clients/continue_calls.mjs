// What Continue asks for, by its providers "openai" and "ollama", against the gateway at CORELANE_URL.
// Each function is one promise of the gateway; the first that breaks ends the run with a stack.

import assert from "node:assert/strict";

const url = process.env.CORELANE_URL;
const headers = { "Content-Type": "application/json", Authorization: "Bearer not-needed-for-ollama" };
const messages = [{ role: "system", content: "You are in an IDE." }, { role: "user", content: "Hello" }];
const prefix = "def add(a, b):\n    return ";

const send = (path, body, more = {}) =>
  fetch(new URL(path, url), { method: "POST", headers, body: JSON.stringify(body), ...more });

async function json(path, body, status = 200) {
  const answer = await send(path, body);
  assert.equal(answer.status, status, path);
  return answer.json();
}

/** The values of a stream by its reader of lines: what follows the last line break is dropped. */
async function values(path, body) {
  const answer = await send(path, { stream: true, ...body });
  assert.equal(answer.status, 200, path);
  let buffer = "";
  const found = [];
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (buffer + chunk).split("\n");
    buffer = lines.pop();
    for (const line of lines.map((text) => text.replace(/^data: ?/, "").trim())) {
      if (line && line !== "[DONE]") found.push(JSON.parse(line));
    }
  }
  assert.equal(buffer, "", "the last line ends with a line break");
  return found;
}

async function ollamaProvider() {
  const shown = await json("api/show", { name: "llama3.2" });
  assert.ok(shown.parameters.includes("num_ctx") && shown.template, JSON.stringify(shown));
  const options = { num_ctx: 4096, num_predict: 9, stop: ["\n\n"], temperature: 0.01 };
  const chat = await values("api/chat", { model: "llama3.2", messages, options, keep_alive: 1800 });
  assert.match(chat.map((part) => part.message.content).join(""), /^You said: Hello/);
  const filled = { model: "llama3.2", prompt: prefix, suffix: "\n\nadd(1, 2)", raw: false, options, keep_alive: 1800 };
  const completion = await values("api/generate", filled);
  assert.match(completion.map((part) => part.response).join(""), /^You said: def add/);
  assert.equal(completion.at(-1).done, true);
  const raw = await values("api/generate", { ...filled, suffix: undefined, raw: true, prompt: `<PRE> ${prefix}` });
  assert.match(raw.map((part) => part.response).join(""), /^You said: <PRE>/);
  const { embeddings } = await json("api/embed", { model: "nomic-embed-text", input: ["one", "two"] });
  assert.deepEqual(embeddings.map((numbers) => numbers.length), [8, 8]);
}

async function openaiProvider() {
  const listed = await (await fetch(new URL("v1/models", url), { headers })).json();
  assert.ok(listed.data.some(({ id }) => id.startsWith("ollama/llama3.2")), JSON.stringify(listed));
  const model = "ollama/llama3.2";
  const chat = await values("v1/chat/completions", { model, messages, max_tokens: 2048, temperature: 0.5 });
  assert.match(chat.map(({ choices }) => choices[0]?.delta.content ?? "").join(""), /^You said: Hello/);
  const filled = { model, prompt: prefix, suffix: "\n\nadd(1, 2)", max_tokens: 9, stop: ["\n\n"], presence_penalty: 0 };
  const completion = await values("v1/completions", filled);
  assert.match(completion.map(({ choices }) => choices[0]?.text ?? "").join(""), /^You said: def add/);
  const { data } = await json("v1/embeddings", { model: "ollama/nomic-embed-text", input: ["one", "two"] });
  assert.deepEqual(data.map(({ embedding }) => embedding.length), [8, 8]);
}

async function tools() {
  const asked = [{ role: "user", content: "What is the weather?" }];
  const tool = { type: "function", function: { name: "get_weather", parameters: { type: "object" } } };
  const body = { model: "ollama/llama3.2", messages: asked, tools: [tool] };
  const parts = (await values("v1/chat/completions", body)).flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
  assert.deepEqual(JSON.parse(parts.map((part) => part.function.arguments ?? "").join("")), { city: "Paris" });
  const native = await values("api/chat", { ...body, model: "llama3.2" });
  const calls = native.flatMap(({ message }) => message.tool_calls ?? []);
  assert.deepEqual(calls[0].function.arguments, { city: "Paris" });
}

async function errors() {
  const asked = { model: "nothing", messages };
  assert.match((await json("v1/chat/completions", asked, 404)).error.message, /nothing/);
  assert.match((await json("api/chat", asked, 404)).error, /nothing/);
}

async function guarded() {
  const asked = (content) => ({ model: "llama3.2", messages: [{ role: "user", content }] });
  await json("v1/chat/completions", asked("forbidden question"), 400);
  for (const path of ["v1/chat/completions", "api/chat"]) {
    const found = await values(path, asked("a forbidden answer"));
    assert.match(JSON.stringify(found.at(-1).error), /answer was blocked/);
    assert.doesNotMatch(JSON.stringify(found), /forbidden/);
  }
}

/** A key pressed while a completion is under way ends it. */
async function cancellation() {
  for (const path of ["v1/completions", "api/generate"]) {
    const signal = AbortSignal.timeout(300);
    await assert.rejects(send(path, { model: "fault-hang", prompt: prefix, stream: true }, { signal }));
  }
}

for (const promise of [ollamaProvider, openaiProvider, tools, errors, guarded, cancellation]) {
  console.log(promise.name);
  await promise();
}
