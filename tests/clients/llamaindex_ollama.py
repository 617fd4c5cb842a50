"""LlamaIndex, by its Ollama classes, against the gateway at CORELANE_URL.

Each function is one promise of the gateway; the first that breaks ends the run with a traceback.
"""

import os

import httpx
import ollama
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama

import documented

URL = os.environ["CORELANE_URL"]


def llm(model="llama3.2", timeout=20):
    return Ollama(model=model, base_url=URL, request_timeout=timeout)


def said(text="Hello"):
    return [ChatMessage(role="user", content=text)]


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def raises(kind, act):
    try:
        result = act()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def whole_and_streamed():
    whole = llm().chat(said()).message.content
    assert whole.startswith("You said: Hello"), whole
    assert llm().complete("Hello").text == whole
    assert "".join(part.delta or "" for part in llm().stream_chat(said())) == whole


def tools():
    tool = FunctionTool.from_defaults(get_weather)
    answer = llm().chat_with_tools([tool], user_msg="What is the weather in Paris?")
    (call,) = llm().get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"}), call


def embeddings():
    embedder = OllamaEmbedding(model_name="nomic-embed-text", base_url=URL)
    one, two = embedder.get_text_embedding_batch(["one", "two"])
    assert len(one) == len(two) == 8 and one != two, (one, two)
    assert embedder.get_text_embedding("one") == one


def errors():
    error = raises(ollama.ResponseError, lambda: llm("nothing").chat(said()))
    assert error.status_code == 404 and "nothing" in error.error, error
    for status in [400, 429, 500]:
        error = raises(ollama.ResponseError, lambda: llm(f"fault-{status}").chat(said()))
        assert (error.status_code, error.error) == (status, "simulated failure"), error
    for fault in ["error-event", "cut", "nodone"]:
        parts = []
        raises(ollama.ResponseError, lambda: parts.extend(llm(f"fault-{fault}").stream_chat(said())))


def guarded():
    error = raises(ollama.ResponseError, lambda: llm().chat(said("forbidden question")))
    assert error.status_code == 400 and "Your request was blocked" in error.error, error
    texts = []

    def drain():
        for part in llm().stream_chat(said("a forbidden answer")):
            texts.append(part.delta or "")

    assert "answer was blocked" in raises(ollama.ResponseError, drain).error
    assert texts and "forbidden" not in "".join(texts), texts


def cancellation():
    raises(httpx.ReadTimeout, lambda: llm("fault-hang", timeout=0.3).chat(said()))


def snippet():
    documented.run("LlamaIndex")


PROMISES = [whole_and_streamed, tools, embeddings, errors, guarded, cancellation, snippet]

if __name__ == "__main__":
    for promise in PROMISES:
        print(promise.__name__, flush=True)
        promise()
