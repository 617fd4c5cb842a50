#!/usr/bin/env bash
# curl without any header of its own: no content type, no key, no user agent, no accept. At CORELANE_URL.
set -euo pipefail

url=$CORELANE_URL
hello='"messages": [{"role": "user", "content": "Hello"}]'

# bare WORDS ARGUMENTS…: must succeed within 20 s and answer with these words
bare() {
    local words=$1 body
    shift
    body=$(curl --silent --show-error --fail-with-body --max-time 20 \
        --header 'Content-Type:' --header 'User-Agent:' --header 'Accept:' "$@") || { echo "failed: curl $*: $body"; exit 1; }
    [[ $body == *"$words"* ]] || { echo "no '$words' in the answer to: curl $*: $body"; exit 1; }
}

bare '"content":"You said: Hello' "$url/v1/chat/completions" --data "{\"model\": \"ollama/llama3.2\", $hello}"
bare 'data: [DONE]' "$url/v1/chat/completions" --data "{\"model\": \"ollama/llama3.2\", $hello, \"stream\": true}"
bare '"done":true' "$url/api/chat" --data "{\"model\": \"llama3.2\", $hello}"
bare '"text":"You said: Hello' "$url/v1/messages" --data "{\"model\": \"llama3.2\", \"max_tokens\": 50, $hello}"
bare '"embedding":[' "$url/v1/embeddings" --data '{"model": "nomic-embed-text", "input": "one"}'
bare '"embeddings":[[' "$url/api/embed" --data '{"model": "nomic-embed-text", "input": "one"}'
bare '"get_weather"' "$url/v1/chat/completions" --data '{"model": "llama3.2", "messages": [{"role": "user", "content": "weather"}],
    "tools": [{"type": "function", "function": {"name": "get_weather"}}]}'
bare '"object":"list"' --http1.0 "$url/v1/models"

# An error has a status and its words; a guard's is no different.
refused() {
    local status=$1 words=$2 got
    shift 2
    got=$(curl --silent --max-time 20 --header 'Content-Type:' --write-out ' %{http_code}' "$@")
    [[ $got == *"$words"*" $status" ]] || { echo "not $status with '$words': $got"; exit 1; }
}
refused 404 'Invalid model name' "$url/v1/chat/completions" --data "{\"model\": \"nothing\", $hello}"
refused 400 'prompt_blocked' "$url/v1/completions" --data '{"model": "llama3.2", "prompt": "forbidden question"}'
refused 200 'response_blocked' "$url/v1/completions" --data '{"model": "llama3.2", "prompt": "a forbidden answer", "stream": true}'

# Whoever leaves is gone: curl gives up after a part of a second.
if curl --silent --max-time 0.3 --output /dev/null "$url/v1/completions" --data '{"model": "fault-hang", "prompt": "x"}'; then
    echo "an answer that never comes"
    exit 1
fi

# The commands of docs/clients.md
snippet=$(awk '/^## curl$/ { found = 1 } found && /^```$/ { exit } shown { print } found && /^```sh$/ { shown = 1 }' "$CORELANE_DOCS")
[[ $snippet == *http://localhost:8000* ]] || { echo "no snippet for curl"; exit 1; }
printed=$(bash -euo pipefail -c "${snippet//http:\/\/localhost:8000/$url}" 2>/dev/null)
[[ $printed == *'You said: Hello'* ]] || { echo "the snippet printed: $printed"; exit 1; }
