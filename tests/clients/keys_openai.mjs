// Keys and limits as the OpenAI SDK for Node sees them: classes of errors, and waiting as told.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import OpenAI from "openai";

const baseURL = `${process.env.CORELANE_URL}/v1`;
const right = process.env.CORELANE_KEY;
const messages = [{ role: "user", content: "Hello" }];

/** A chat; each `who` has a pace of its own. */
function chat(apiKey, { model = "llama3.2", who = randomUUID(), maxRetries = 0 } = {}) {
  const client = new OpenAI({ baseURL, apiKey, maxRetries, timeout: 20_000 });
  return client.chat.completions.create({ model, messages }, { headers: { "x-pace": who } });
}

async function rejects(kind, status, act) {
  const error = await act().then(
    (value) => assert.fail(`${kind.name} expected, got ${JSON.stringify(value)}`),
    (reason) => reason,
  );
  assert.equal(error.constructor.name, kind.name, `class of ${error}`);
  assert.equal(error.status, status);
  return error;
}

assert.ok((await chat(right)).choices[0].message.content);
// Final answers: with retries allowed, none is made.
let error = await rejects(OpenAI.AuthenticationError, 401, () => chat("wrong-key", { maxRetries: 5 }));
assert.deepEqual([error.type, error.code], ["auth_error", "invalid_api_key"]);
error = await rejects(OpenAI.PermissionDeniedError, 403, () => chat(right, { model: "mistral", maxRetries: 5 }));
assert.deepEqual([error.type, error.code, error.param], ["permission_error", "model_not_allowed", "model"]);
// A quota of a minute.
await chat("sk-few-requests");
error = await rejects(OpenAI.RateLimitError, 429, () => chat("sk-few-requests"));
assert.deepEqual([error.type, error.code], ["rate_limit_error", "rate_limit_exceeded"]);
// A rate: one in 1.5 s. Who waits as told is let in by the first retry; the SDK's own pause would be too short.
await chat("sk-paced-requests", { who: "a" });
error = await rejects(OpenAI.RateLimitError, 429, () => chat("sk-paced-requests", { who: "a" }));
assert.ok(Number(error.headers.get("retry-after-ms")) > 500);
await chat("sk-paced-requests", { who: "b" });
assert.ok((await chat("sk-paced-requests", { who: "b", maxRetries: 1 })).choices[0].message.content);
console.log("ok");
