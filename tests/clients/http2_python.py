"""The OpenAI SDK for Python over HTTP/2, at CORELANE_URL with the certificate CORELANE_CA.

Each function is one promise of the gateway; the first that breaks ends the run with a traceback.
"""

import asyncio
import os
import ssl

import httpx2
import openai

URL = os.environ["CORELANE_URL"] + "/v1"
TRUST = ssl.create_default_context(cafile=os.environ["CORELANE_CA"])
MODEL = "ollama/llama3.2"
HELLO = [{"role": "user", "content": "Hello"}]
versions = set()


def note(response):
    versions.add(response.http_version)


async def note_async(response):
    versions.add(response.http_version)


def sync():
    transport = httpx2.Client(http2=True, verify=TRUST, event_hooks={"response": [note]})
    client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=20, http_client=transport)
    whole = client.chat.completions.create(model=MODEL, messages=HELLO)
    text = whole.choices[0].message.content
    assert text.startswith("You said: Hello"), text
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert len(chunks) > 2, "a stream has chunks"
    vectors = client.embeddings.create(model="ollama/nomic-embed-text", input=["one", "two"])
    assert len(vectors.data) == 2
    for _ in range(50):
        with client.chat.completions.create(model=MODEL, messages=HELLO, stream=True) as stream:
            next(iter(stream))  # and leaves
    try:
        client.chat.completions.create(model="unheard-of", messages=HELLO)
    except openai.NotFoundError as error:
        assert error.status_code == 404
    else:
        raise AssertionError("a model that nobody has was served")
    try:
        list(client.chat.completions.create(model="fault-cut", messages=HELLO, stream=True))
    except (openai.APIError, httpx2.TransportError):
        pass
    else:
        raise AssertionError("a cut stream looked whole")
    long = [{"role": "user", "content": "x" * 3_000_000}]
    assert client.chat.completions.create(model=MODEL, messages=long).choices[0].message.content
    client.close()


async def concurrent():
    transport = httpx2.AsyncClient(
        http2=True, verify=TRUST, event_hooks={"response": [note_async]}, limits=httpx2.Limits(max_connections=1)
    )
    async with openai.AsyncOpenAI(
        base_url=URL, api_key="none", max_retries=0, timeout=20, http_client=transport
    ) as client:

        async def one(mark):
            messages = [{"role": "user", "content": f"number {mark}."}]
            stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
            text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
            assert f"number {mark}." in text, text

        await asyncio.gather(*(one(mark) for mark in range(60)))


sync()
asyncio.run(concurrent())
assert versions == {"HTTP/2"}, versions
