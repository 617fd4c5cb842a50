"""The OpenAI SDK for Python, against the gateway at CORELANE_URL.

Each function is one promise of the gateway; the first that breaks ends the run with a traceback.
"""

import asyncio
import base64
import json
import os
import struct

import openai

import documented

URL = os.environ["CORELANE_URL"] + "/v1"
KEY = "not-needed-for-ollama"
MODEL = "ollama/llama3.2"
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [{
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}]

client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=20)


def chat(**more):
    return client.chat.completions.create(**{"model": MODEL, "messages": HELLO} | more)


def read(stream, model=MODEL):
    """The chunks of a stream and its text by choice, after checking what every stream promises."""
    chunks, texts, finishes = [], {}, {}
    for chunk in stream:
        chunks.append(chunk)
        assert chunk.model == model, f"a chunk names {chunk.model}, asked for {model}"
        assert chunk.id == chunks[0].id, f"the id changes from {chunks[0].id} to {chunk.id}"
        for choice in chunk.choices:
            text = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (text or "")
            if choice.finish_reason:
                finishes.setdefault(choice.index, []).append(choice.finish_reason)
    assert chunks, "a stream without chunks"
    assert all(len(reasons) == 1 for reasons in finishes.values()), f"finish reasons {finishes}"
    assert finishes.keys() == texts.keys(), f"choices {texts.keys()}, finished {finishes.keys()}"
    return chunks, texts


def raises(kind, act, status=None):
    """The error of this very class that `act` raises."""
    try:
        result = act()
    except openai.APIError as error:
        assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        assert status is None or error.status_code == status, f"status {error.status_code}, not {status}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def chat_whole():
    answer = chat()
    assert answer.object == "chat.completion", answer.object
    assert answer.model == MODEL, answer.model
    assert answer.choices[0].message.role == "assistant", answer
    assert answer.choices[0].message.content.startswith("You said: Hello"), answer
    assert answer.choices[0].finish_reason == "stop", answer
    usage = answer.usage
    assert usage.prompt_tokens == 1 and usage.completion_tokens > 1, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def chat_streamed():
    whole = chat().choices[0].message.content
    chunks, texts = read(chat(stream=True))
    assert texts == {0: whole}, f"streamed {texts}, whole {whole!r}"
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert not any(chunk.usage for chunk in chunks), "usage that nobody asked for"
    assert all(chunk.choices for chunk in chunks), "a chunk without choices that nobody asked for"
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as helper:
        assert helper.get_final_completion().choices[0].message.content == whole, "the stream helper differs"


def chat_streamed_with_usage():
    chunks, _ = read(chat(stream=True, stream_options={"include_usage": True}))
    with_usage = [chunk for chunk in chunks if chunk.usage]
    assert with_usage == chunks[-1:], "usage comes in the last chunk, once"
    assert chunks[-1].choices == [], "the usage chunk has no choices"
    assert chunks[-1].usage == chat().usage, "usage of the stream and of the whole answer differ"


def several_choices():
    answer = chat(n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2], answer
    _, texts = read(chat(n=3, stream=True))
    assert texts == {at: answer.choices[at].message.content for at in range(3)}, texts


def cut_by_length():
    assert chat(max_tokens=3).choices[0].finish_reason == "length"
    assert chat(max_completion_tokens=3).choices[0].finish_reason == "length", "max_completion_tokens is lost"


def tools():
    message = chat(messages=WEATHER, tools=TOOLS).choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "get_weather", call
    assert json.loads(call.function.arguments) == {"city": "Paris"}, call
    assert chat(messages=WEATHER, tools=TOOLS, tool_choice="none").choices[0].message.tool_calls is None

    chunks, _ = read(chat(messages=WEATHER, tools=TOOLS, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert [part.index for part in parts] == [0] * len(parts), parts
    assert [part.function.name for part in parts if part.function.name] == ["get_weather"], parts
    assert len([part.id for part in parts if part.id]) == 1, "the id comes once"
    assert json.loads("".join(part.function.arguments or "" for part in parts)) == {"city": "Paris"}, parts
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason]
    assert reasons == ["tool_calls"], reasons

    # the round with the tool's result: content null beside the calls, role "tool"
    told = WEATHER + [
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        {"role": "user", "content": "Thanks"},
    ]
    assert chat(messages=told).choices[0].message.content.startswith("You said: Thanks")


def json_format():
    text = chat(response_format={"type": "json_object"}).choices[0].message.content
    assert json.loads(text)["answer"].startswith("You said: Hello"), text


def content_parts():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    parts = [{"type": "text", "text": "Grüße 🦙"}, picture]
    text = chat(messages=[{"role": "user", "content": parts}]).choices[0].message.content
    assert text.startswith("You said: Grüße 🦙"), text


def completions():
    answer = client.completions.create(model=MODEL, prompt="Hello")
    assert answer.object == "text_completion" and answer.model == MODEL, answer
    assert answer.choices[0].text.startswith("You said: Hello"), answer
    _, texts = read(client.completions.create(model=MODEL, prompt="Hello", stream=True))
    assert texts == {0: answer.choices[0].text}, texts


def embeddings():
    def embed(**more):
        return client.embeddings.create(model="ollama/nomic-embed-text", input=["one", "two"], **more)

    default, floats, encoded = embed(), embed(encoding_format="float"), embed(encoding_format="base64")
    assert default.model == "ollama/nomic-embed-text", default.model
    assert default.usage.prompt_tokens == 2, default.usage
    assert [item.index for item in default.data] == [0, 1], default
    for by_default, as_floats, as_base64 in zip(default.data, floats.data, encoded.data, strict=True):
        numbers = as_floats.embedding
        assert len(numbers) == 8, numbers
        assert abs(sum(number * number for number in numbers) - 1) < 1e-5, f"no unit vector: {numbers}"
        single = struct.unpack("<8f", struct.pack("<8f", *numbers))
        assert tuple(by_default.embedding) == single, f"default {by_default.embedding}, float {numbers}"
        assert struct.unpack("<8f", base64.b64decode(as_base64.embedding)) == single, "base64 differs"
    one = client.embeddings.create(model="ollama/nomic-embed-text", input="one").data
    assert one[0].embedding == default.data[0].embedding, "a string and an array of it differ"


def models():
    names = [model.id for model in client.models.list()]
    assert any(name.split(":")[0] == MODEL for name in names), names
    assert client.models.retrieve(MODEL).id == MODEL, "an id with a slash, escaped by the SDK"
    assert client.models.retrieve(names[0]).id == names[0]
    raises(openai.NotFoundError, lambda: client.models.retrieve("ollama/nothing"), 404)


def refusals():
    error = raises(openai.NotFoundError, lambda: chat(model="ollama/nothing"), 404)
    assert "Invalid model name passed in model=" in error.message, error
    assert error.code == "model_not_found" and error.type == "invalid_request_error", error.body
    # a stream that cannot begin is an ordinary error
    raises(openai.NotFoundError, lambda: chat(model="ollama/nothing", stream=True), 404)
    for body in [{"model": MODEL}, {"model": MODEL, "messages": []}]:
        error = raises(openai.BadRequestError, lambda: client.post("/chat/completions", body=body, cast_to=object), 400)
        assert error.param == "messages", error.body
    raises(openai.BadRequestError, lambda: client.post("/chat/completions", body={"messages": HELLO}, cast_to=object), 400)
    raises(openai.NotFoundError, lambda: client.post("/assistants", body={}, cast_to=object), 404)


def upstream_errors():
    for status, kind in [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ]:
        error = raises(kind, lambda: chat(model=f"ollama/fault-{status}"), status)
        words = "server busy" if status == 503 else "simulated failure"
        assert words in error.message, f"the endpoint's words are lost: {error.message}"
    # no answer, or none that is whole and valid: a gateway's error, never half an answer
    for fault in ["reset", "close", "cut-head", "cut", "wrong-length", "chunk-garbage", "garbage"]:
        raises(openai.InternalServerError, lambda: chat(model=f"ollama/fault-{fault}"), 502)


def broken_streams():
    whole = chat(model="ollama/fault-none").choices[0].message.content
    for fault in ["error-event", "cut", "nodone", "garbage", "wrong-length", "chunk-garbage"]:
        texts, finishes = [], []

        def drain():
            for chunk in chat(model=f"ollama/fault-{fault}", stream=True):
                texts.append(chunk.choices[0].delta.content or "")
                finishes.append(chunk.choices[0].finish_reason)

        error = raises(openai.APIError, drain)
        text = "".join(texts)
        assert text and whole.startswith(text), f"{fault}: {text!r} is no beginning of {whole!r}"
        # "nodone" says everything but the end; that end must not be made up
        assert not any(finishes), f"{fault}: an invented finish reason {finishes}"
        if fault == "error-event":
            assert "simulated failure" in error.message, error.message


def retries():
    requests = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [requests.append]})
    patient = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=2, http_client=http)

    def tries(model):
        requests.clear()
        try:
            patient.chat.completions.create(model=model, messages=HELLO)
        except openai.APIStatusError as error:
            return len(requests), error.response.headers.get("x-should-retry")
        raise AssertionError(f"{model} answered")

    assert tries("ollama/nothing") == (1, "false"), "an unknown model is asked for once"
    assert tries("ollama/fault-400") == (1, "false"), "a bad request is sent once"
    assert tries("ollama/fault-500")[0] == 3, "the SDK may try a failing server again"


def responses():
    answer = client.responses.create(model=MODEL, input="Hello")
    assert answer.status == "completed" and answer.model == MODEL, answer
    assert answer.output_text.startswith("You said: Hello"), answer
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens, answer.usage

    events = list(client.responses.create(model=MODEL, input="Hello", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text, text
    assert events[0].type == "response.created" and events[-1].type == "response.completed", events
    assert [event.sequence_number for event in events] == list(range(len(events)))
    named = {event.response.model for event in events if hasattr(event, "response")}
    assert named == {MODEL}, named

    call = client.responses.create(
        model=MODEL, input="What is the weather?", tools=[{"type": "function", "name": "get_weather"}]
    ).output[0]
    assert (call.type, json.loads(call.arguments)) == ("function_call", {"city": "Paris"}), call

    raises(openai.NotFoundError, lambda: client.responses.create(model="ollama/nothing", input="Hello"), 404)
    for fault in ["error-event", "cut", "nodone", "chunk-garbage"]:
        stream = client.responses.create(model=f"ollama/fault-{fault}", input="Hello", stream=True)
        raises(openai.APIError, lambda: list(stream))


def headers():
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert raw.headers["x-corelane-endpoint"] == "sim", raw.headers
    assert raw.headers["x-request-id"], raw.headers
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    for name in ["x-corelane-attempts", "x-corelane-overhead-us", "x-litellm-model-id", "x-litellm-call-id"]:
        assert name in raw.headers, f"{name} is missing: {raw.headers}"
    mine = chat(extra_headers={"x-request-id": "mine-1"})
    assert mine._request_id == "mine-1", "the client's own id is kept"
    assert raises(openai.NotFoundError, lambda: chat(model="ollama/nothing")).request_id, "errors have an id too"


def guarded():
    question, echo = [[{"role": "user", "content": text}] for text in ("forbidden question", "a forbidden answer")]
    for messages, kind in [(question, "prompt_blocked"), (echo, "response_blocked")]:
        error = raises(openai.BadRequestError, lambda: chat(messages=messages), 400)
        assert error.type == kind and error.response.headers["x-should-retry"] == "false", error.body
    texts = []

    def drain():
        for chunk in chat(messages=echo, stream=True):
            texts.append(chunk.choices[0].delta.content or "")

    assert raises(openai.APIError, drain).type == "response_blocked"
    assert "forbidden" not in "".join(texts), texts


def cancellation():
    hanging = {"model": "ollama/fault-hang", "messages": HELLO, "timeout": 0.3}
    raises(openai.APITimeoutError, lambda: client.chat.completions.create(**hanging))
    raises(openai.APITimeoutError, lambda: client.chat.completions.create(**hanging, stream=True))


def snippet():
    documented.run("OpenAI SDK, Python")


def many_at_once():
    async def ask(asker, at):
        messages = [{"role": "user", "content": f"number-{at}"}]
        stream = await asker.chat.completions.create(model=MODEL, messages=messages, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text.startswith(f"You said: number-{at} "), f"the answer of another: {text!r}"

    async def run():
        async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as asker:
            await asyncio.gather(*(ask(asker, at) for at in range(50)))

    asyncio.run(run())


PROMISES = [
    chat_whole, chat_streamed, chat_streamed_with_usage, several_choices, cut_by_length, tools, json_format,
    content_parts, completions, embeddings, models, refusals, upstream_errors, broken_streams, retries, responses,
    headers, guarded, cancellation, snippet, many_at_once,
]

if __name__ == "__main__":
    for promise in PROMISES:
        print(promise.__name__, flush=True)
        promise()
