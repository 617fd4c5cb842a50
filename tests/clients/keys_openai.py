"""Keys and limits as the OpenAI SDK for Python sees them: classes of errors, and waiting as told."""

import os

import openai

URL = os.environ["CORELANE_URL"] + "/v1"
HELLO = [{"role": "user", "content": "Hello"}]


def chat(key, model="llama3.2", who="", retries=0):
    """A chat; each `who` has a pace of its own."""
    client = openai.OpenAI(base_url=URL, api_key=key, max_retries=retries, timeout=20)
    headers = {"x-pace": who or os.urandom(8).hex()}
    return client.chat.completions.create(model=model, messages=HELLO, extra_headers=headers)


def raises(kind, status, act):
    try:
        result = act()
    except openai.APIStatusError as error:
        assert type(error) is kind and error.status_code == status, f"{type(error).__name__} {error.status_code}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


right = os.environ["CORELANE_KEY"]
assert chat(right).choices[0].message.content
# Final answers: with retries allowed, none is made.
error = raises(openai.AuthenticationError, 401, lambda: chat("wrong-key", retries=5))
assert (error.type, error.code) == ("auth_error", "invalid_api_key"), error
error = raises(openai.PermissionDeniedError, 403, lambda: chat(right, model="mistral", retries=5))
assert (error.type, error.code, error.param) == ("permission_error", "model_not_allowed", "model"), error
assert [model.id for model in openai.OpenAI(base_url=URL, api_key=right).models.list()] == ["llama3.2"]
# A quota of a minute.
chat("sk-few-requests")
error = raises(openai.RateLimitError, 429, lambda: chat("sk-few-requests"))
assert (error.type, error.code) == ("rate_limit_error", "rate_limit_exceeded"), error
assert 1 <= int(error.response.headers["retry-after"]) <= 60
# A rate: one in 1.5 s. Who waits as told is let in by the first retry; the SDK's own pause would be too short.
chat("sk-paced-requests", who="a")
error = raises(openai.RateLimitError, 429, lambda: chat("sk-paced-requests", who="a"))
assert 500 < int(error.response.headers["retry-after-ms"]) <= 1502, error.response.headers
chat("sk-paced-requests", who="b")
assert chat("sk-paced-requests", who="b", retries=1).choices[0].message.content
print("ok")
