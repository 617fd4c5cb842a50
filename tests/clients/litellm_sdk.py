"""LiteLLM's SDK as a client of the gateway at CORELANE_URL.

Each function is one promise of the gateway; the first that breaks ends the run with a traceback.
"""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks for its price list at each start

import litellm

import documented

litellm.suppress_debug_info = True
URL = os.environ["CORELANE_URL"]
SERVER = {"api_base": URL + "/v1", "api_key": "not-needed-for-ollama", "max_retries": 0, "timeout": 20}
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [{
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}]


def ask(model="llama3.2", **more):
    return litellm.completion(**SERVER | {"model": f"openai/ollama/{model}", "messages": HELLO} | more)


def read(stream, texts):
    for chunk in stream:
        if chunk.choices:
            texts.append(chunk.choices[0].delta.content or "")


def raises(kind, act, status):
    try:
        result = act()
    except kind as error:
        assert error.status_code == status, f"status {error.status_code}, not {status}: {error}"
        return str(error)
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def whole():
    answer = ask()
    assert answer.choices[0].message.content.startswith("You said: Hello"), answer
    assert answer.model == "ollama/llama3.2", answer.model
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage


def streamed():
    text, texts, usages = ask().choices[0].message.content, [], []
    for chunk in ask(stream=True, stream_options={"include_usage": True}):
        texts.append((chunk.choices[0].delta.content or "") if chunk.choices else "")
        usages += [chunk.usage] if getattr(chunk, "usage", None) else []
    assert "".join(texts) == text, texts
    assert [usage.prompt_tokens for usage in usages] == [1], usages


def tools():
    call = ask(messages=WEATHER, tools=TOOLS).choices[0].message.tool_calls[0].function
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}'), call
    parts = [part for part in ask(messages=WEATHER, tools=TOOLS, stream=True)]
    built = litellm.stream_chunk_builder(parts).choices[0].message.tool_calls[0].function
    assert (built.name, built.arguments) == (call.name, call.arguments), built


def embeddings():
    both = litellm.embedding(model="openai/ollama/nomic-embed-text", input=["one", "two"], **SERVER).data
    assert [len(item["embedding"]) for item in both] == [8, 8], both


def other_providers():
    native = litellm.completion(model="ollama_chat/llama3.2", messages=HELLO, api_base=URL)
    assert native.choices[0].message.content.startswith("You said: Hello"), native
    texts = []
    read(litellm.completion(model="ollama_chat/llama3.2", messages=HELLO, api_base=URL, stream=True), texts)
    assert "".join(texts) == native.choices[0].message.content, texts
    anthropic = litellm.completion(model="anthropic/ollama/llama3.2", messages=HELLO, api_base=URL, api_key="none")
    assert anthropic.choices[0].message.content.startswith("You said: Hello"), anthropic


def errors():
    told = raises(litellm.NotFoundError, lambda: ask("nothing"), 404)
    assert "Invalid model name passed in model=ollama/nothing" in told, told
    for status, kind in [
        (400, litellm.BadRequestError),
        (401, litellm.AuthenticationError),
        (429, litellm.RateLimitError),
        (500, litellm.InternalServerError),
        (503, litellm.ServiceUnavailableError),
    ]:
        told = raises(kind, lambda: ask(f"fault-{status}"), status)
        assert ("server busy" if status == 503 else "simulated failure") in told, told
    raises(litellm.BadGatewayError, lambda: ask("fault-cut"), 502)
    for fault in ["error-event", "cut", "nodone"]:
        texts = []
        raises(litellm.exceptions.MidStreamFallbackError, lambda: read(ask(f"fault-{fault}", stream=True), texts), 500)
        assert texts, f"{fault}: nothing came"


def guarded():
    question, echo = [{"role": "user", "content": text} for text in ("forbidden question", "a forbidden answer")]
    told = raises(litellm.BadRequestError, lambda: ask(messages=[question]), 400)
    assert "Your request was blocked" in told and "BanSubstrings" in told, told
    assert "answer was blocked" in raises(litellm.BadRequestError, lambda: ask(messages=[echo]), 400)
    texts = []
    blocked = lambda: read(ask(messages=[echo], stream=True), texts)
    told = raises(litellm.exceptions.MidStreamFallbackError, blocked, 500)
    assert "answer was blocked" in told and "forbidden" not in "".join(texts), (told, texts)


def cancellation():
    raises(litellm.Timeout, lambda: ask("fault-hang", timeout=0.3), 408)


def snippet():
    documented.run("LiteLLM SDK")


PROMISES = [whole, streamed, tools, embeddings, other_providers, errors, guarded, cancellation, snippet]

if __name__ == "__main__":
    for promise in PROMISES:
        print(promise.__name__, flush=True)
        promise()
