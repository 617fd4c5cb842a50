"""The migration of the deployment guide, its snippets as they stand but for the address, at CORELANE_URL.

CORELANE_DIRECT is the model server itself, which the guide's clients used before.
"""

import contextlib
import io
import json
import os

URL = os.environ["CORELANE_URL"]
DIRECT = os.environ["CORELANE_DIRECT"]

BEFORE = """
import requests

response = requests.post(
    'http://192.168.1.2:11434/api/generate',
    json={'model': 'llama3.2', 'prompt': 'Hello'}
)
"""
AFTER = """
import requests

# Just change the URL - API is identical!
response = requests.post(
    'http://localhost:8000/v1/completions',  # LiteLLM endpoint
    json={'model': 'ollama/llama3.2', 'prompt': 'Hello'}  # Note: model name changes
)
"""
SDK = """
from openai import OpenAI

client = OpenAI(
    api_key="not-needed-for-ollama",  # Dummy key
    base_url="http://localhost:8000/v1"
)

response = client.chat.completions.create(
    model="ollama/llama3.2",
    messages=[{"role": "user", "content": "Hello"}],
    stream=False
)

print(response.choices[0].message.content)
"""


def run(snippet, server):
    """The snippet's variables and what it prints."""
    for address in ["http://192.168.1.2:11434", "http://localhost:8000"]:
        snippet = snippet.replace(address, server)
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(snippet, names)  # noqa: S102, the snippets above
    return names, printed.getvalue()


def native(server):
    """The text of the native answer, which is a stream unless told otherwise."""
    response = run(BEFORE, server)[0]["response"]
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/x-ndjson"), response.headers
    assert response.text.endswith("\n"), "the last line is terminated"
    parts = [json.loads(line) for line in response.text.splitlines()]
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True], parts
    assert {part["model"] for part in parts} == {"llama3.2"}, parts
    return "".join(part["response"] for part in parts)


def main():
    before = native(DIRECT)
    assert before.startswith("You said: Hello"), before
    assert native(URL) == before, "a client that changes the address alone"

    response = run(AFTER, URL)[0]["response"]
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["object"], body["model"]) == ("text_completion", "ollama/llama3.2"), body
    assert body["choices"][0]["text"] == before, body

    _, printed = run(SDK, URL)
    assert printed == before + "\n", printed


if __name__ == "__main__":
    main()
