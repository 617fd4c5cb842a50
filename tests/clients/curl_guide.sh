#!/usr/bin/env bash
# The curl commands of the deployment guide, at CORELANE_URL instead of http://localhost:8000.
set -euo pipefail

url=$CORELANE_URL

# ask WORDS ARGUMENTS…: curl must succeed within 20 s and answer with these words
ask() {
    local words=$1 body
    shift
    body=$(curl --fail-with-body --silent --show-error --max-time 20 "$@") || { echo "failed: curl $*: $body"; exit 1; }
    [[ $body == *"$words"* ]] || { echo "no '$words' in the answer to: curl $*: $body"; exit 1; }
}

# Test the Setup
ask '"healthy_count"' "$url/health"
ask '"ollama/llama3.2' "$url/v1/models"
ask '"content":"You said: Hello' -X POST "$url/v1/chat/completions" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "ollama/llama3.2",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": false
  }'

# Verify connectivity; High latency or timeouts: without a Content-Type of its own curl sends that of a form
ask '"llama3.2' -s "$url/api/tags"
ask '"done":true' "$url/api/generate" -d '{"model":"llama3.2"}'
ask '"content":"You said: Hello' "$url/v1/chat/completions" \
  -d '{"model": "ollama/llama3.2", "messages": [{"role": "user", "content": "Hello"}]}'
ask 'data: [DONE]' --no-buffer "$url/v1/chat/completions" \
  -d '{"model": "ollama/llama3.2", "messages": [{"role": "user", "content": "Hello"}], "stream": true}'

# Probes of compose files and load balancers
ask "I'm alive!" "$url/health/liveliness"
ask '"status":"healthy"' "$url/health/readiness"
ask 'Ollama is running' "$url/"
ask '"version"' "$url/api/version"
ask '' --head "$url/"

# A body above 1 MB: curl waits for "100 Continue" first
big=$(mktemp)
trap 'rm -f "$big"' EXIT
{ printf '{"model": "ollama/llama3.2", "prompt": "'; head --bytes=1500000 /dev/zero | tr '\0' x; printf '"}'; } >"$big"
ask 'You said: xxx' --data-binary "@$big" "$url/v1/completions"
sent=$(curl --silent --verbose --output /dev/null --data-binary "@$big" "$url/v1/completions" 2>&1)
[[ $sent == *'100 Continue'* ]] || { echo "no 100 Continue: $sent"; exit 1; }

# Errors are JSON with a status, so that --fail notices them
status=$(curl --silent --output /dev/null --write-out '%{http_code}' "$url/v1/completions" -d '{"model": "nothing", "prompt": "x"}')
[[ $status == 404 ]] || { echo "an unknown model: $status"; exit 1; }
