// The AI SDK of Vercel with its provider for OpenAI-compatible servers, against the gateway at CORELANE_URL.
// Each function is one promise of the gateway; the first that breaks ends the run with a stack.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, jsonSchema, streamText, tool } from "ai";
const { documented } = await import(`${process.env.CORELANE_SCRIPTS}/documented.mjs`);

const baseURL = `${process.env.CORELANE_URL}/v1`;
const gateway = createOpenAICompatible({ name: "corelane", baseURL, includeUsage: true });
const model = gateway("ollama/llama3.2");
const prompt = "Hello";
const quiet = { maxRetries: 0 };

/** The error that `act` rejects with. */
const rejects = (act) =>
  act().then((value) => assert.fail(`an error expected, got ${JSON.stringify(value)}`), (reason) => reason);

async function whole() {
  const { text, finishReason, usage } = await generateText({ model, prompt, ...quiet });
  assert.match(text, /^You said: Hello/);
  assert.equal(finishReason, "stop");
  assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
}

async function streamed() {
  const { text } = await generateText({ model, prompt, ...quiet });
  const result = streamText({ model, prompt, ...quiet });
  const parts = [];
  for await (const part of result.textStream) parts.push(part);
  assert.ok(parts.length > 1 && parts.join("") === text, `${parts}`);
  assert.ok((await result.usage).outputTokens > 1, "usage of a stream");
}

async function callsTools() {
  const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const tools = { get_weather: tool({ inputSchema: jsonSchema(schema) }) };
  const asked = { model, prompt: "What is the weather in Paris?", tools, ...quiet };
  const [call] = (await generateText(asked)).toolCalls;
  assert.deepEqual([call.toolName, call.input], ["get_weather", { city: "Paris" }]);
  const [streamedCall] = await streamText(asked).toolCalls;
  assert.deepEqual(streamedCall.input, call.input, "fragments joined");
}

async function embeds() {
  const values = ["one", "two"];
  const { embeddings } = await embedMany({ model: gateway.textEmbeddingModel("ollama/nomic-embed-text"), values });
  assert.deepEqual(embeddings.map((numbers) => numbers.length), [8, 8]);
}

/** The texts and the errors of a stream: an error is a part, and what follows a connection that was cut is thrown. */
async function parts(more) {
  const [texts, errors] = [[], []];
  try {
    for await (const part of streamText({ model, prompt, onError: () => {}, ...quiet, ...more }).fullStream) {
      if (part.type === "text-delta") texts.push(part.text);
      if (part.type === "error") errors.push(part.error);
    }
  } catch (error) {
    errors.push(error);
  }
  return { text: texts.join(""), errors };
}

async function errors() {
  const asked = (name) => generateText({ model: gateway(`ollama/${name}`), prompt, ...quiet });
  for (const [name, status, again] of [["nothing", 404, false], ["fault-400", 400, false], ["fault-500", 500, true]]) {
    const error = await rejects(() => asked(name));
    assert.deepEqual([error.statusCode, error.isRetryable], [status, again], `${error}`);
  }
  for (const fault of ["error-event", "cut", "nodone"]) {
    const { text, errors } = await parts({ model: gateway(`ollama/fault-${fault}`) });
    assert.ok(errors.length, `${fault} looks whole: ${text}`);
  }
}

async function guarded() {
  const error = await rejects(() => generateText({ model, prompt: "forbidden question", ...quiet }));
  assert.equal(error.statusCode, 400);
  assert.match(error.message, /Your request was blocked/);
  const { text, errors } = await parts({ prompt: "a forbidden answer" });
  assert.match(`${errors[0]?.message ?? errors[0]}`, /answer was blocked/);
  assert.doesNotMatch(text, /forbidden/);
}

async function cancellation() {
  const abortSignal = AbortSignal.timeout(300);
  await rejects(() => generateText({ model: gateway("ollama/fault-hang"), prompt, abortSignal, ...quiet }));
}

const snippet = () => documented("Vercel AI SDK", import.meta.url);

for (const promise of [whole, streamed, callsTools, embeds, errors, guarded, cancellation, snippet]) {
  console.log(promise.name);
  await promise();
}
