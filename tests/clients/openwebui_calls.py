"""What Open WebUI asks for, by the library that it uses (aiohttp), against the gateway at CORELANE_URL.

Both of its connections: OpenAI and Ollama. Each function is one promise of the gateway; the first that breaks ends the
run with a traceback.
"""

import asyncio
import json
import os

import aiohttp

URL = os.environ["CORELANE_URL"]
USER = {
    "X-OpenWebUI-User-Name": "Ada%20L", "X-OpenWebUI-User-Id": "4f6f", "X-OpenWebUI-User-Email": "ada@example.org",
    "X-OpenWebUI-User-Role": "user", "X-OpenWebUI-Chat-Id": "c0ffee",
}
HEADERS = {"Authorization": "Bearer not-needed-for-ollama", "Content-Type": "application/json"} | USER
MODEL = "ollama/llama3.2"
TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history."


def messages(text="Hello"):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


async def post(session, path, body, status=200):
    async with session.post(URL + path, data=json.dumps(body), headers=HEADERS) as answer:
        text = await answer.text()
        assert answer.status == status, f"{path}: {answer.status}: {text}"
        return json.loads(text)


async def get(session, path):
    async with session.get(URL + path, headers=HEADERS) as answer:
        assert answer.status == 200, f"{path}: {answer.status}"
        return await answer.json()


async def stream(session, path, body):
    """The lines of a stream, as Open WebUI hands them on to the browser."""
    async with session.post(URL + path, data=json.dumps(body), headers=HEADERS) as answer:
        assert answer.status == 200, await answer.text()
        kind = "text/event-stream" if path.startswith("/v1") else "application/x-ndjson"
        assert kind in answer.headers["Content-Type"], "by this it knows a stream"
        assert "Content-Encoding" not in answer.headers, "it copies the fields to the browser"
        return [line.decode() async for line in answer.content]


async def openai_connection(session):
    listed = await get(session, "/v1/models")
    assert listed["object"] == "list" and all({"id", "owned_by"} <= model.keys() for model in listed["data"]), listed
    body = {"model": MODEL, "messages": messages(), "stream": True, "stream_options": {"include_usage": True}}
    more = {"temperature": 0.7, "seed": 42, "stop": ["</s>"], "frequency_penalty": 0, "logit_bias": {}, "user": "4f6f"}
    lines = [line for line in await stream(session, "/v1/chat/completions", body | more) if line.strip()]
    assert lines[-1].strip() == "data: [DONE]", lines[-1]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text.startswith("You said: Hello"), text
    assert chunks[-1]["usage"]["total_tokens"] > 1, chunks[-1]
    title = {"model": MODEL, "messages": messages(TITLE)[1:], "stream": False, "max_completion_tokens": 5}
    answer = await post(session, "/v1/chat/completions", title)
    assert answer["choices"][0]["finish_reason"] == "length", answer
    embedded = await post(session, "/v1/embeddings", {"input": ["one", "two"], "model": "ollama/nomic-embed-text"})
    assert [len(item["embedding"]) for item in embedded["data"]] == [8, 8], embedded


async def ollama_connection(session):
    assert (await get(session, "/api/version"))["version"], "shown to the administrator"
    tags = (await get(session, "/api/tags"))["models"]
    wanted = {"name", "model", "modified_at", "size", "digest", "details"}
    assert tags and all(wanted <= model.keys() for model in tags), tags
    shown = await post(session, "/api/show", {"model": "llama3.2"})
    assert "completion" in shown["capabilities"], shown
    body = {"model": "llama3.2:latest", "messages": messages(), "options": {"num_ctx": 4096}, "keep_alive": "5m"}
    parts = [json.loads(line) for line in await stream(session, "/api/chat", body | {"stream": True})]
    assert parts[-1]["done"] and parts[-1]["eval_count"] > 1, parts[-1]
    assert "".join(part["message"]["content"] for part in parts).startswith("You said: Hello"), parts
    loaded = [model["name"] for model in (await get(session, "/api/ps"))["models"]]
    assert "llama3.2:latest" in loaded, loaded
    title = body | {"stream": False, "messages": messages(TITLE)[1:], "options": {"num_predict": 5}}
    assert (await post(session, "/api/chat", title))["done_reason"] == "length"
    embedded = await post(session, "/api/embed", {"model": "nomic-embed-text", "input": ["one"], "truncate": True})
    assert len(embedded["embeddings"][0]) == 8, embedded


async def tools(session):
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    body = {"model": MODEL, "messages": messages("What is the weather?"), "tools": [tool], "stream": False}
    call = (await post(session, "/v1/chat/completions", body))["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["name"] == "get_weather", call


async def errors(session):
    asked = {"model": "nothing", "messages": messages()}
    told = await post(session, "/v1/chat/completions", asked, 404)
    assert isinstance(told["error"]["message"], str), "it shows error.message"
    told = await post(session, "/api/chat", asked, 404)
    assert isinstance(told["error"], str), "it shows error"
    for path in ["/api/pull", "/api/delete"]:
        async with session.request("POST", URL + path, json={"model": "x"}) as answer:
            assert answer.status == 403, f"{path}: {answer.status}"


async def guarded(session):
    asked = {"model": "llama3.2", "messages": messages("forbidden question"), "stream": True}
    told = await post(session, "/v1/chat/completions", asked, 400)
    assert told["error"]["type"] == "prompt_blocked", told
    asked["messages"] = messages("a forbidden answer")
    for path in ["/v1/chat/completions", "/api/chat"]:
        lines = [line for line in await stream(session, path, asked) if line.strip()]
        assert "answer was blocked" in json.loads(lines[-1].removeprefix("data: "))["error"].__str__(), lines[-1]
        assert "[DONE]" not in "".join(lines) and "forbidden" not in "".join(lines), lines


async def cancellation(session):
    """Whoever presses stop closes the connection."""
    asked = {"model": "fault-hang", "messages": messages(), "stream": True}
    for path in ["/v1/chat/completions", "/api/chat"]:
        try:
            await asyncio.wait_for(stream(session, path, asked), 0.3)
        except TimeoutError:
            continue
        raise AssertionError(f"{path}: an answer that never comes")


PROMISES = [openai_connection, ollama_connection, tools, errors, guarded, cancellation]


async def main():
    async with aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(total=20)) as session:
        for promise in PROMISES:
            print(promise.__name__, flush=True)
            await promise(session)


if __name__ == "__main__":
    asyncio.run(main())
