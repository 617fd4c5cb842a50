// Anthropic's SDK for Node, against the gateway at CORELANE_URL.
// Each function is one promise of the gateway; the first that breaks ends the run with a stack.

import assert from "node:assert/strict";
import Anthropic, { ServiceUnavailableError } from "@anthropic-ai/sdk";
const { documented } = await import(`${process.env.CORELANE_SCRIPTS}/documented.mjs`);

const baseURL = process.env.CORELANE_URL;
const model = "ollama/llama3.2";
const hello = [{ role: "user", content: "Hello" }];
const weather = [{ role: "user", content: "What is the weather in Paris?" }];
const tools = [{ name: "get_weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];

const client = new Anthropic({ baseURL, apiKey: "not-needed-for-ollama", maxRetries: 0, timeout: 20_000 });
const ask = (more = {}, options = {}) =>
  client.messages.create({ model, max_tokens: 100, messages: hello, ...more }, options);

/** The error of this very class that `act` rejects with. */
async function rejects(kind, act, status) {
  const error = await act().then(
    (value) => assert.fail(`${kind.name} expected, got ${JSON.stringify(value)}`),
    (reason) => reason,
  );
  assert.equal(error.constructor.name, kind.name, `class of ${error}`);
  assert.equal(error.status, status, `status of ${error}`);
  return error;
}

/** The text of a stream as far as it comes, and how it ends. */
async function drain(texts, more) {
  for await (const event of await ask({ stream: true, ...more })) {
    if (event.type === "content_block_delta") texts.push(event.delta.text);
  }
}

async function whole() {
  const answer = await ask({ system: "Be brief." });
  assert.equal(answer.model, model);
  assert.match(answer.content[0].text, /^You said: Hello/);
  assert.equal(answer.stop_reason, "end_turn");
  assert.equal(answer.usage.input_tokens, 3);
  assert.ok(answer._request_id, "the SDK finds the id of the request");
}

async function streamed() {
  const { text } = (await ask()).content[0];
  const stream = client.messages.stream({ model, max_tokens: 100, messages: hello });
  assert.equal(await stream.finalText(), text, "the stream helper");
  const texts = [];
  await drain(texts);
  assert.ok(texts.length > 1 && texts.join("") === text, `${texts}`);
}

async function callsTools() {
  const call = (await ask({ messages: weather, tools })).content.at(-1);
  assert.deepEqual([call.type, call.name, call.input], ["tool_use", "get_weather", { city: "Paris" }]);
  const stream = client.messages.stream({ model, max_tokens: 100, messages: weather, tools });
  assert.deepEqual((await stream.finalMessage()).content.at(-1).input, call.input, "the stream helper");
}

async function countsTokens() {
  assert.equal((await client.messages.countTokens({ model, messages: hello })).input_tokens, 1);
}

async function errors() {
  const error = await rejects(Anthropic.NotFoundError, () => ask({ model: "ollama/nothing" }), 404);
  assert.equal(error.error.error.type, "not_found_error");
  assert.ok(error.requestID, "errors have an id too");
  const cases = [
    [400, Anthropic.BadRequestError],
    [401, Anthropic.AuthenticationError],
    [403, Anthropic.PermissionDeniedError],
    [429, Anthropic.RateLimitError],
    [500, Anthropic.InternalServerError],
    [503, ServiceUnavailableError],
  ];
  for (const [status, kind] of cases) await rejects(kind, () => ask({ model: `ollama/fault-${status}` }), status);
  for (const fault of ["error-event", "cut", "nodone"]) {
    const texts = [];
    await rejects(Anthropic.APIError, () => drain(texts, { model: `ollama/fault-${fault}` }), undefined);
    assert.ok(texts.length, `${fault}: nothing came`);
  }
}

async function guarded() {
  const question = [{ role: "user", content: "forbidden question" }];
  const error = await rejects(Anthropic.BadRequestError, () => ask({ messages: question }), 400);
  assert.equal(error.error.error.type, "prompt_blocked");
  const texts = [];
  const messages = [{ role: "user", content: "a forbidden answer" }];
  const cut = await rejects(Anthropic.APIError, () => drain(texts, { messages }), undefined);
  assert.match(cut.message, /answer was blocked/);
  assert.doesNotMatch(texts.join(""), /forbidden/);
}

async function cancellation() {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 300);
  const hanging = () => ask({ model: "ollama/fault-hang" }, { signal: controller.signal });
  await rejects(Anthropic.APIUserAbortError, hanging, undefined);
}

const snippet = () => documented("Anthropic SDK, Node", import.meta.url);

for (const promise of [whole, streamed, callsTools, countsTokens, errors, guarded, cancellation, snippet]) {
  console.log(promise.name);
  await promise();
}
