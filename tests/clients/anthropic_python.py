"""Anthropic's SDK for Python, against the gateway at CORELANE_URL.

Each function is one promise of the gateway; the first that breaks ends the run with a traceback.
"""

import os

import anthropic

import documented

URL = os.environ["CORELANE_URL"]
MODEL = "ollama/llama3.2"
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [{
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}]

client = anthropic.Anthropic(base_url=URL, api_key="not-needed-for-ollama", max_retries=0, timeout=20)


def ask(**more):
    return client.messages.create(**{"model": MODEL, "max_tokens": 100, "messages": HELLO} | more)


def raises(kind, act, status=None):
    """The error of this very class that `act` raises."""
    try:
        result = act()
    except anthropic.APIError as error:
        assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        assert status is None or error.status_code == status, f"status {error.status_code}, not {status}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def whole():
    answer = ask(system="Be brief.")
    assert answer.type == "message" and answer.role == "assistant", answer
    assert answer.model == MODEL, f"the model asked for, not {answer.model}"
    assert answer.content[0].text.startswith("You said: Hello"), answer
    assert answer.stop_reason == "end_turn", answer
    assert answer.usage.input_tokens == 3 and answer.usage.output_tokens > 1, answer.usage
    assert ask(max_tokens=3).stop_reason == "max_tokens"
    blocks = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    assert ask(messages=blocks).content[0].text == answer.content[0].text, "blocks of content"


def streamed():
    text = ask().content[0].text
    with client.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == text, "the stream helper"
        final = stream.get_final_message()
    assert final.model == MODEL and final.stop_reason == "end_turn", final
    assert final.usage.output_tokens > 1, final.usage
    events = [event.type for event in ask(stream=True)]
    assert events[0] == "message_start" and events[-1] == "message_stop", events
    assert events.count("content_block_delta") > 1, "an event leaves when it comes"


def tools():
    answer = ask(messages=WEATHER, tools=TOOLS)
    call = answer.content[-1]
    assert answer.stop_reason == "tool_use", answer
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"}), call
    with client.messages.stream(model=MODEL, max_tokens=100, messages=WEATHER, tools=TOOLS) as stream:
        streamed_call = stream.get_final_message().content[-1]
    assert streamed_call.input == call.input, streamed_call
    told = WEATHER + [
        {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"},
            {"type": "text", "text": "Thanks"},
        ]},
    ]
    assert "Thanks" in ask(messages=told).content[0].text


def count_tokens():
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO, system="Be brief.")
    assert counted.input_tokens == 3, counted


def models():
    names = [model.id for model in client.models.list()]
    assert any(name.split(":")[0] == MODEL for name in names), names
    assert client.models.retrieve(MODEL).id == MODEL


def errors():
    error = raises(anthropic.NotFoundError, lambda: ask(model="ollama/nothing"), 404)
    assert error.body["type"] == "error" and error.body["error"]["type"] == "not_found_error", error.body
    assert "nothing" in error.body["error"]["message"], error.body
    assert error.request_id == error.response.headers["x-request-id"], "the SDK finds the id of the request"
    raises(anthropic.NotFoundError, lambda: ask(model="ollama/nothing", stream=True), 404)
    raises(anthropic.BadRequestError, lambda: ask(messages=[]), 400)
    for status, kind, word in [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
    ]:
        error = raises(kind, lambda: ask(model=f"ollama/fault-{status}"), status)
        assert error.body["error"]["type"] == word, error.body
        assert "simulated failure" in error.body["error"]["message"], error.body
    try:
        ask(model="ollama/fault-503")
    except anthropic.APIStatusError as error:
        assert error.status_code == 503 and error.body["error"]["type"] == "overloaded_error", error.body


def broken_streams():
    for fault in ["error-event", "cut", "nodone"]:
        texts = []

        def drain():
            for event in ask(model=f"ollama/fault-{fault}", stream=True):
                assert event.type != "message_stop", f"{fault}: an invented end"
                if event.type == "content_block_delta":
                    texts.append(event.delta.text)

        try:
            drain()
        except anthropic.APIError:
            assert texts, f"{fault}: nothing came"
        else:
            raise AssertionError(f"{fault}: a broken stream looks whole: {texts}")


def guarded():
    error = raises(anthropic.BadRequestError, lambda: ask(messages=[{"role": "user", "content": "forbidden question"}]))
    assert error.body["error"]["type"] == "prompt_blocked", error.body
    assert error.response.headers["x-should-retry"] == "false", error.response.headers
    echo = [{"role": "user", "content": "a forbidden answer"}]
    error = raises(anthropic.BadRequestError, lambda: ask(messages=echo))
    assert error.body["error"]["type"] == "response_blocked", error.body
    texts = []

    def drain():
        for event in ask(messages=echo, stream=True):
            if event.type == "content_block_delta":
                texts.append(event.delta.text)

    try:
        drain()
    except anthropic.APIError as error:
        assert error.body["error"]["type"] == "response_blocked", error.body
    else:
        raise AssertionError(f"not blocked: {texts}")
    assert "forbidden" not in "".join(texts), texts


def cancellation():
    raises(anthropic.APITimeoutError, lambda: client.with_options(timeout=0.3).messages.create(
        model="ollama/fault-hang", max_tokens=9, messages=HELLO))
    with client.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        next(iter(stream))


def snippet():
    documented.run("Anthropic SDK, Python")


PROMISES = [
    whole, streamed, tools, count_tokens, models, errors, broken_streams, guarded, cancellation, snippet,
]

if __name__ == "__main__":
    for promise in PROMISES:
        print(promise.__name__, flush=True)
        promise()
