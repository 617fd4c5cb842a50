// Node's http2 module, and the OpenAI SDK over HTTP/2 by undici, at CORELANE_URL with the certificate CORELANE_CA.
// Each function is one promise of the gateway; the first that breaks ends the run with a stack.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import OpenAI from "openai";
import { Agent, fetch } from "undici";

const url = process.env.CORELANE_URL;
const ca = readFileSync(process.env.CORELANE_CA);
const model = "ollama/llama3.2";
const messages = [{ role: "user", content: "Hello" }];

/** A request on a session: status, fields and body, or the code of its reset. */
function ask(session, fields, body) {
  return new Promise((resolve, reject) => {
    const stream = session.request(fields);
    let answer;
    const chunks = [];
    stream.on("response", (head) => (answer = head));
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("end", () =>
      resolve({ status: answer?.[":status"], fields: answer, body: Buffer.concat(chunks).toString() }),
    );
    stream.end(body);
  });
}

const post = (session, path, json) =>
  ask(session, { ":method": "POST", ":path": path, "content-type": "application/json" }, JSON.stringify(json));

async function sessions() {
  const session = http2.connect(url, { ca });
  const chat = await post(session, "/v1/chat/completions", { model, messages });
  assert.equal(chat.status, 200, chat.body);
  assert.match(JSON.parse(chat.body).choices[0].message.content, /^You said: Hello/);
  assert.equal(chat.fields.connection, undefined);

  const stream = await post(session, "/v1/chat/completions", { model, messages, stream: true });
  assert.equal(stream.fields["content-type"], "text/event-stream");
  assert.ok(stream.body.endsWith("data: [DONE]\n\n"), stream.body);

  const many = await Promise.all(
    Array.from({ length: 100 }, (_, at) =>
      post(session, "/v1/chat/completions", { model, messages: [{ role: "user", content: `number ${at}.` }], stream: at % 2 === 0 }),
    ),
  );
  many.forEach((answer, at) => assert.match(answer.body, at % 2 ? new RegExp(`number ${at}\\.`) : /\[DONE\]/));

  const missing = await ask(session, { ":path": "/nothing" });
  assert.equal(missing.status, 404);
  const broken = await post(session, "/v1/chat/completions", { model: "fault-cut", messages, stream: true }).then(
    (answer) => assert.fail(`a cut stream looked whole: ${answer.body}`),
    (error) => error,
  );
  assert.equal(broken.code, "ERR_HTTP2_STREAM_ERROR", `${broken}`);
  await new Promise((resolve) => session.ping(Buffer.from("12345678"), resolve));
  await new Promise((resolve) => session.close(resolve));
}

async function cancels() {
  const session = http2.connect(url, { ca });
  for (let round = 0; round < 300; round += 1) {
    const stream = session.request({ ":method": "POST", ":path": "/v1/chat/completions" });
    stream.end(JSON.stringify({ model, messages, stream: true }));
    await new Promise((resolve, reject) => {
      stream.once("data", resolve);
      stream.once("error", reject);
    });
    stream.close(http2.constants.NGHTTP2_CANCEL);
  }
  assert.equal((await ask(session, { ":path": "/health" })).status, 200);
  await new Promise((resolve) => session.close(resolve));
}

async function sdk() {
  const dispatcher = new Agent({ allowH2: true, connect: { ca } });
  let versions = 0;
  const over2 = async (input, init) => {
    const answer = await fetch(input, { ...init, dispatcher });
    versions += 1;
    return answer;
  };
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 20_000, fetch: over2 });
  const whole = await client.chat.completions.create({ model, messages });
  assert.match(whole.choices[0].message.content, /^You said: Hello/);
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.equal(text, whole.choices[0].message.content);
  const several = await Promise.all(
    Array.from({ length: 40 }, () => client.chat.completions.create({ model, messages })),
  );
  assert.ok(several.every((answer) => answer.choices[0].message.content === text));
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const chunk of stream) {
    assert.equal(chunk.model, model);
    break; // cancels it
  }
  await assert.rejects(client.chat.completions.create({ model: "unheard-of", messages }), OpenAI.NotFoundError);
  assert.ok(versions >= 44);
  await dispatcher.close();
}

await sessions();
await cancels();
await sdk();
