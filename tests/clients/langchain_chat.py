"""LangChain's OpenAI classes against the gateway at CORELANE_URL.

Each function is one promise of the gateway; the first that breaks ends the run with a traceback.
"""

import asyncio
import os

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

import documented

SERVER = {
    "base_url": os.environ["CORELANE_URL"] + "/v1",
    "api_key": "not-needed-for-ollama",
    "max_retries": 0,
}
MODEL = "ollama/llama3.2"


class Answer(BaseModel):
    """What the model says."""

    answer: str


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def chat(model=MODEL, **more):
    return ChatOpenAI(model=model, timeout=20, **SERVER, **more)


def invoke():
    answer = chat().invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
    assert answer.content.startswith("You said: Hello"), answer
    assert answer.response_metadata["model_name"] == MODEL, answer.response_metadata
    assert answer.response_metadata["finish_reason"] == "stop", answer.response_metadata
    usage = answer.usage_metadata
    assert usage["input_tokens"] == 3 and usage["output_tokens"] > 1, usage


def stream():
    whole = chat().invoke("Hello")
    chunks = list(chat(stream_usage=True).stream("Hello"))
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.content == whole.content, joined
    assert joined.usage_metadata == whole.usage_metadata, joined.usage_metadata
    assert len([chunk for chunk in chunks if chunk.usage_metadata]) == 1, "usage comes once"
    without = list(chat(stream_usage=False).stream("Hello"))
    assert not any(chunk.usage_metadata for chunk in without), "usage that nobody asked for"

    async def run():
        return "".join([chunk.content async for chunk in chat().astream("Hello")])

    assert asyncio.run(run()) == whole.content, "the asynchronous stream"


def tools():
    asker = chat().bind_tools([get_weather])
    asked = HumanMessage("What is the weather in Paris?")
    call = asker.invoke([asked]).tool_calls[0]
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"}), call
    joined = None
    for chunk in asker.stream([asked]):
        joined = chunk if joined is None else joined + chunk
    assert joined.tool_calls[0]["args"] == {"city": "Paris"}, joined
    told = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    last = asker.invoke([asked, AIMessage("", tool_calls=[call]), told, HumanMessage("Thanks")])
    assert last.content.startswith("You said: Thanks"), last


def structured_output():
    for method in ["json_schema", "json_mode"]:
        answer = chat().with_structured_output(Answer, method=method).invoke("Hello")
        assert answer.answer.startswith("You said: Hello"), f"{method}: {answer}"


def embeddings():
    embedder = OpenAIEmbeddings(model="ollama/nomic-embed-text", check_embedding_ctx_length=False, **SERVER)
    one, two = embedder.embed_documents(["one", "two"])
    assert len(one) == len(two) == 8 and one != two, (one, two)
    assert embedder.embed_query("one") == one


def errors():
    for kind, model in [
        (openai.NotFoundError, "ollama/nothing"),
        (openai.RateLimitError, "ollama/fault-429"),
        (openai.InternalServerError, "ollama/fault-500"),
    ]:
        raises(kind, lambda: chat(model).invoke("Hello"))
    for fault in ["error-event", "cut", "nodone"]:
        raises(openai.APIError, lambda: list(chat(f"ollama/fault-{fault}").stream("Hello")))


def raises(kind, act):
    try:
        result = act()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def guarded():
    raises(openai.BadRequestError, lambda: chat().invoke("forbidden question"))
    texts = []
    raises(openai.APIError, lambda: texts.extend(part.content for part in chat().stream("a forbidden answer")))
    assert "forbidden" not in "".join(texts), texts


def cancellation():
    hasty = ChatOpenAI(model="ollama/fault-hang", timeout=0.3, **SERVER)
    raises(openai.APITimeoutError, lambda: hasty.invoke("Hello"))


def snippet():
    documented.run("LangChain")


PROMISES = [invoke, stream, tools, structured_output, embeddings, errors, guarded, cancellation, snippet]

if __name__ == "__main__":
    for promise in PROMISES:
        print(promise.__name__, flush=True)
        promise()
