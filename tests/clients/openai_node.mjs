// The OpenAI SDK for Node, against the gateway at CORELANE_URL.
// Each function is one promise of the gateway; the first that breaks ends the run with a stack.

import assert from "node:assert/strict";
import OpenAI from "openai";
const { documented } = await import(`${process.env.CORELANE_SCRIPTS}/documented.mjs`);

const baseURL = `${process.env.CORELANE_URL}/v1`;
const apiKey = "not-needed-for-ollama";
const model = "ollama/llama3.2";
const hello = [{ role: "user", content: "Hello" }];
const weather = [{ role: "user", content: "What is the weather in Paris?" }];
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const chat = (more = {}) => client.chat.completions.create({ model, messages: hello, ...more });

/** The chunks of a stream and its texts by choice, after checking what every stream promises. */
async function read(stream) {
  const chunks = [];
  const texts = [];
  const finishes = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    assert.equal(chunk.model, model, "every chunk names the model asked for");
    assert.equal(chunk.id, chunks[0].id, "one id throughout");
    for (const { index, delta, text, finish_reason } of chunk.choices) {
      texts[index] = (texts[index] ?? "") + (delta?.content ?? text ?? "");
      if (finish_reason) (finishes[index] ??= []).push(finish_reason);
    }
  }
  assert.ok(chunks.length > 1, "a stream has chunks");
  assert.deepEqual(finishes.map((reasons) => reasons.length), texts.map(() => 1), "one finish a choice");
  return { chunks, texts };
}

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

async function chatWhole() {
  const answer = await chat();
  assert.equal(answer.model, model);
  assert.match(answer.choices[0].message.content, /^You said: Hello/);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
}

async function chatStreamed() {
  const whole = (await chat()).choices[0].message.content;
  const { chunks, texts } = await read(await chat({ stream: true }));
  assert.deepEqual(texts, [whole], "streamed and whole");
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.ok(chunks.every((chunk) => !chunk.usage && chunk.choices.length), "usage that nobody asked for");
  const helper = client.chat.completions.stream({ model, messages: hello });
  assert.equal(await helper.finalContent(), whole, "the stream helper");
}

async function chatStreamedWithUsage() {
  const { chunks } = await read(await chat({ stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.filter((chunk) => chunk.usage), chunks.slice(-1), "usage comes last, once");
  assert.deepEqual(chunks.at(-1).choices, [], "the usage chunk has no choices");
  assert.deepEqual(chunks.at(-1).usage, (await chat()).usage, "as in the whole answer");
}

async function severalChoices() {
  const whole = (await chat({ n: 3 })).choices;
  assert.deepEqual(whole.map((choice) => choice.index), [0, 1, 2]);
  const { texts } = await read(await chat({ n: 3, stream: true }));
  assert.deepEqual(texts, whole.map((choice) => choice.message.content));
}

async function callsTools() {
  const [call] = (await chat({ messages: weather, tools })).choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });

  const { chunks } = await read(await chat({ messages: weather, tools, stream: true }));
  const parts = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert.ok(parts.every((part) => part.index === 0), "every fragment has its index");
  assert.equal(parts.filter((part) => part.id).length, 1, "the id comes once");
  const text = parts.map((part) => part.function.arguments ?? "").join("");
  assert.deepEqual(JSON.parse(text), { city: "Paris" }, "fragments joined");
  const helper = client.chat.completions.stream({ model, messages: weather, tools });
  const final = await helper.finalMessage();
  assert.equal(final.tool_calls[0].function.arguments, call.function.arguments, "the stream helper");
}

async function jsonFormat() {
  const text = (await chat({ response_format: { type: "json_object" } })).choices[0].message.content;
  assert.match(JSON.parse(text).answer, /^You said: Hello/);
}

async function completions() {
  const ask = (more) => client.completions.create({ model, prompt: "Hello", ...more });
  const whole = (await ask({})).choices[0].text;
  assert.match(whole, /^You said: Hello/);
  assert.deepEqual((await read(await ask({ stream: true }))).texts, [whole]);
}

async function embeddings() {
  const embed = async (more) =>
    (await client.embeddings.create({ model: "ollama/nomic-embed-text", input: ["one", "two"], ...more })).data;
  const floats = await embed({ encoding_format: "float" });
  // without a format the SDK asks for base64 and decodes what comes without looking at it
  const decoded = await embed({});
  for (const at of [0, 1]) {
    assert.equal(floats[at].embedding.length, 8, "dimensions");
    const single = floats[at].embedding.map(Math.fround);
    assert.deepEqual(Array.from(decoded[at].embedding), single, "the numbers are the same");
  }
}

async function models() {
  const names = [];
  for await (const entry of client.models.list()) names.push(entry.id);
  assert.ok(names.some((name) => name.split(":")[0] === model), `${names}`);
  assert.equal((await client.models.retrieve(model)).id, model, "an id with a slash, escaped by the SDK");
  await rejects(OpenAI.NotFoundError, () => client.models.retrieve("ollama/nothing"), 404);
}

async function refusals() {
  const error = await rejects(OpenAI.NotFoundError, () => chat({ model: "ollama/nothing" }), 404);
  assert.match(error.message, /Invalid model name passed in model=/);
  assert.equal(error.code, "model_not_found");
  assert.ok(error.requestID, "errors have an id too");
  await rejects(OpenAI.BadRequestError, () => chat({ messages: undefined }), 400);
}

async function upstreamErrors() {
  const cases = [
    [400, OpenAI.BadRequestError],
    [401, OpenAI.AuthenticationError],
    [403, OpenAI.PermissionDeniedError],
    [422, OpenAI.UnprocessableEntityError],
    [429, OpenAI.RateLimitError],
    [500, OpenAI.InternalServerError],
    [503, OpenAI.InternalServerError],
  ];
  for (const [status, kind] of cases) {
    const error = await rejects(kind, () => chat({ model: `ollama/fault-${status}` }), status);
    assert.match(error.message, status === 503 ? /server busy/ : /simulated failure/, "the endpoint's words");
  }
}

async function brokenStreams() {
  const whole = (await chat({ model: "ollama/fault-none" })).choices[0].message.content;
  for (const fault of ["error-event", "cut", "nodone", "garbage", "wrong-length", "chunk-garbage"]) {
    let text = "";
    const finishes = [];
    const drain = async () => {
      for await (const { choices } of await chat({ model: `ollama/fault-${fault}`, stream: true })) {
        text += choices[0].delta.content ?? "";
        if (choices[0].finish_reason) finishes.push(choices[0].finish_reason);
      }
    };
    await rejects(OpenAI.APIError, drain, undefined);
    assert.ok(text && whole.startsWith(text), `${fault}: ${text}`);
    assert.deepEqual(finishes, [], `${fault}: an invented finish reason`);
  }
}

async function retries() {
  let requests = 0;
  const counting = (...args) => (requests++, fetch(...args));
  const patient = new OpenAI({ baseURL, apiKey, maxRetries: 2, fetch: counting });
  const tries = async (name) => {
    requests = 0;
    await patient.chat.completions.create({ model: name, messages: hello }).catch(() => {});
    return requests;
  };
  assert.equal(await tries("ollama/nothing"), 1, "an unknown model is asked for once");
  assert.equal(await tries("ollama/fault-400"), 1, "a bad request is sent once");
  assert.equal(await tries("ollama/fault-500"), 3, "the SDK may try a failing server again");
}

async function responses() {
  const ask = (more) => client.responses.create({ model, input: "Hello", ...more });
  const whole = await ask({});
  assert.equal(whole.status, "completed");
  assert.equal(whole.model, model);
  assert.match(whole.output_text, /^You said: Hello/);
  const events = [];
  for await (const event of await ask({ stream: true })) events.push(event);
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), whole.output_text);
  assert.equal(events.at(-1).type, "response.completed");
  assert.ok(events.every((event) => !event.response || event.response.model === model), "the model asked for");
  for (const fault of ["error-event", "cut", "nodone"]) {
    const drain = async () => {
      for await (const _ of await ask({ model: `ollama/fault-${fault}`, stream: true }));
    };
    await rejects(OpenAI.APIError, drain, undefined);
  }
}

async function headers() {
  const { data, response } = await chat().withResponse();
  assert.equal(response.headers.get("x-corelane-endpoint"), "sim");
  assert.ok(response.headers.get("x-request-id"), "an id");
  assert.equal(data._request_id, response.headers.get("x-request-id"));
}

async function guarded() {
  const [question, echo] = ["forbidden question", "a forbidden answer"].map((content) => [{ role: "user", content }]);
  const error = await rejects(OpenAI.BadRequestError, () => chat({ messages: question }), 400);
  assert.equal(error.type, "prompt_blocked");
  let text = "";
  const drain = async () => {
    for await (const { choices } of await chat({ messages: echo, stream: true })) text += choices[0].delta.content ?? "";
  };
  const cut = await rejects(OpenAI.APIError, drain, undefined);
  assert.equal(cut.type, "response_blocked");
  assert.doesNotMatch(text, /forbidden/);
}

async function cancellation() {
  const signal = AbortSignal.timeout(300);
  const hanging = () => client.chat.completions.create({ model: "ollama/fault-hang", messages: hello }, { signal });
  await rejects(OpenAI.APIUserAbortError, hanging, undefined);
}

const snippet = () => documented("OpenAI SDK, Node", import.meta.url);

const promises = [
  chatWhole, chatStreamed, chatStreamedWithUsage, severalChoices, callsTools, jsonFormat, completions, embeddings,
  models, refusals, upstreamErrors, brokenStreams, retries, responses, headers, guarded, cancellation, snippet,
];
for (const promise of promises) {
  console.log(promise.name);
  await promise();
}
