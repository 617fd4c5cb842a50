"""The OpenAI SDK for Python, against a gateway whose server loads its models and that sends comments meanwhile."""

import os

import httpx
import openai

URL = os.environ["CORELANE_URL"]
HELLO = [{"role": "user", "content": "Hello"}]
seen = []


class Noting(httpx.HTTPTransport):
    """Notes what comes, so that this test knows that there were comments."""

    def handle_request(self, request):
        response = super().handle_request(request)
        stream, parts = response.stream, []
        seen.append(parts)

        class Parts(httpx.SyncByteStream):
            def __iter__(self):
                for part in stream:
                    parts.append(part)
                    yield part

            def close(self):
                stream.close()

        response.stream = Parts()
        return response


client = openai.OpenAI(
    base_url=URL + "/v1",
    api_key="none",
    max_retries=0,
    timeout=20,
    http_client=httpx.Client(transport=Noting()),
)


def stream(model):
    with client.chat.completions.create(model=model, messages=HELLO, stream=True) as events:
        return list(events)


chunks = stream("llama3.2")
raw = b"".join(seen[-1])
assert raw.startswith(b": waiting\n\n"), raw[:80]
assert all(chunk.model == "llama3.2" for chunk in chunks)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason], chunks

# Loaded: nothing to wait for, no comment.
stream("llama3.2")
assert b": waiting" not in b"".join(seen[-1])

# What is not streamed waits without a sign.
whole = client.chat.completions.create(model="mistral", messages=HELLO)
assert whole.choices[0].message.content
assert b"waiting" not in b"".join(seen[-1])

# A failure behind comments raises, by its event.
try:
    events = stream("fault-500")
except openai.APIError as error:
    text = b"".join(seen[-1])
    assert b"[DONE]" not in text, text
else:
    raise AssertionError(f"an error expected, got {events}")
