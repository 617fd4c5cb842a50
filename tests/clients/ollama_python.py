"""The Ollama client for Python, against the gateway at CORELANE_URL.

Each function is one promise of the gateway; the first that breaks ends the run with a traceback.
"""

import json
import os

import httpx
import ollama

import documented

MODEL = "llama3.2"
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = [{"role": "user", "content": "What is the weather?"}]

client = ollama.Client(host=os.environ["CORELANE_URL"], timeout=20)


def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: Its name.
    """
    return f"sunny in {city}"


def read(stream):
    """The parts of a stream, after checking what every stream promises."""
    parts = list(stream)
    assert len(parts) > 1, parts
    assert {part.model for part in parts} == {MODEL}, "every part names the model asked for"
    assert [bool(part.done) for part in parts] == [False] * (len(parts) - 1) + [True], "done comes last, once"
    assert all(part.created_at for part in parts), "every part has its time"
    return parts


def raises(act, status=None):
    try:
        result = act()
    except ollama.ResponseError as error:
        assert status is None or error.status_code == status, f"status {error.status_code}: {error.error}"
        return error
    raise AssertionError(f"ResponseError expected, got {result!r}")


def chat():
    whole = client.chat(MODEL, HELLO)
    assert whole.model == MODEL, whole.model
    assert whole.message.content.startswith("You said: Hello"), whole
    assert whole.done and whole.done_reason == "stop" and whole.eval_count > 1, whole
    parts = read(client.chat(MODEL, HELLO, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert parts[-1].eval_count == whole.eval_count and parts[-1].total_duration > 0, parts[-1]
    prefixed = client.chat(f"ollama/{MODEL}", HELLO)
    assert prefixed.message.content == whole.message.content, "the other spelling of the model"
    assert prefixed.model == MODEL, f"native answers name the model without prefix: {prefixed.model}"


def generate():
    whole = client.generate(MODEL, "Hello")
    assert whole.response.startswith("You said: Hello") and whole.context, whole
    parts = read(client.generate(MODEL, "Hello", stream=True))
    assert "".join(part.response or "" for part in parts) == whole.response
    short = client.generate(MODEL, "Hello", options={"num_predict": 3})
    assert short.done_reason == "length" and short.eval_count == 3, short
    assert client.generate(MODEL, "").done_reason == "load", "an empty prompt only loads"


def json_format():
    answer = client.chat(MODEL, HELLO, format={"type": "object"}).message.content
    assert json.loads(answer)["answer"].startswith("You said: Hello"), answer


def embeddings():
    both = client.embed("nomic-embed-text", ["one", "two"]).embeddings
    assert [len(numbers) for numbers in both] == [8, 8], both
    assert client.embed("nomic-embed-text", "one").embeddings[0] == both[0]
    assert client.embeddings("nomic-embed-text", "one").embedding == both[0], "the old API gives the same"


def listings():
    listed = {model.model: model for model in client.list().models}
    entry = listed[f"{MODEL}:latest"]
    assert entry.digest and entry.size and entry.modified_at and entry.details.format == "gguf", entry
    shown = client.show(MODEL)
    assert "completion" in shown.capabilities and "num_ctx" in shown.parameters and shown.template, shown
    assert f"{MODEL}:latest" in [model.model for model in client.ps().models], client.ps()


def tools():
    call = client.chat(MODEL, WEATHER, tools=[get_weather]).message.tool_calls[0].function
    assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"}), call
    assert get_weather(**call.arguments) == "sunny in Paris"
    parts = read(client.chat(MODEL, WEATHER, tools=[get_weather], stream=True))
    calls = [call.function.arguments for part in parts for call in part.message.tool_calls or []]
    assert calls == [{"city": "Paris"}], calls


def thinking():
    message = client.chat("think", HELLO, think=True).message
    assert message.thinking == "Let me think." and message.content.startswith("You said: Hello"), message
    parts = list(client.chat("think", HELLO, think=True, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == message.thinking
    assert client.chat("think", HELLO, think=False).message.thinking is None


def errors():
    for act in [
        lambda: client.chat("nothing", HELLO),
        lambda: list(client.generate("nothing", "Hello", stream=True)),
        lambda: client.show("nothing"),
        lambda: client.embed("nothing", "one"),
    ]:
        error = raises(act, 404)
        assert "nothing" in error.error and not error.error.startswith("{"), f"a text that names it: {error.error}"
    for status in [400, 429, 500, 503]:
        error = raises(lambda: client.chat(f"fault-{status}", HELLO), status)
        assert error.error.startswith("server busy" if status == 503 else "simulated failure"), error.error
    raises(lambda: client.delete(MODEL), 403)
    raises(lambda: client.pull(MODEL), 403)


def broken_streams():
    for fault in ["error-event", "cut", "nodone", "garbage", "wrong-length", "chunk-garbage"]:
        parts = []
        raises(lambda: [parts.append(part) for part in client.chat(f"fault-{fault}", HELLO, stream=True)])
        assert parts and not any(part.done for part in parts), f"{fault}: no parts, or an invented end: {parts}"


def guarded():
    error = raises(lambda: client.chat(MODEL, [{"role": "user", "content": "forbidden question"}]), 400)
    assert "Your request was blocked" in error.error, error.error
    parts = []
    echo = [{"role": "user", "content": "a forbidden answer"}]
    error = raises(lambda: parts.extend(client.chat(MODEL, echo, stream=True)))
    assert "answer was blocked" in error.error, error.error
    assert not any("forbidden" in (part.message.content or "") for part in parts), parts


def cancellation():
    hasty = ollama.Client(host=os.environ["CORELANE_URL"], timeout=0.3)
    for act in [lambda: hasty.chat("fault-hang", HELLO), lambda: list(hasty.chat("fault-hang", HELLO, stream=True))]:
        try:
            act()
        except httpx.TimeoutException:
            continue
        raise AssertionError("an answer that never comes")


def snippet():
    documented.run("Ollama SDK, Python")


PROMISES = [
    chat, generate, json_format, embeddings, listings, tools, thinking, errors, broken_streams, guarded, cancellation,
    snippet,
]

if __name__ == "__main__":
    for promise in PROMISES:
        print(promise.__name__, flush=True)
        promise()
