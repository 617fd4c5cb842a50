#!/usr/bin/env bash
# curl, h2load and nghttp over HTTP/2, at CORELANE_URL with the certificate CORELANE_CA.
set -euo pipefail

url=$CORELANE_URL
chat='{"model": "ollama/llama3.2", "messages": [{"role": "user", "content": "Hello"}]}'
stream='{"model": "ollama/llama3.2", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
folder=$(mktemp --directory)
trap 'rm --recursive --force "$folder"' EXIT
printf %s "$chat" >"$folder/chat.json"
printf %s "$stream" >"$folder/stream.json"

fail() { echo "failed: $*"; exit 1; }

# ask STATUS WORDS ARGUMENTS…: curl must be answered over HTTP/2 with this status and these words, within 20 s
ask() {
    local status=$1 words=$2 body
    shift 2
    body=$(curl --http2 --cacert "$CORELANE_CA" --silent --show-error --max-time 20 --write-out ' [%{http_version} %{http_code}]' "$@") ||
        fail "curl $*: $body"
    [[ $body == *"$words"*"[2 $status]" ]] || fail "no '$words' by HTTP/2 with $status in the answer to: curl $*: $body"
}

json=(--header 'Content-Type: application/json')
ask 200 '"healthy_count"' "$url/health"
ask 200 '"ollama/llama3.2' "$url/v1/models"
ask 200 'You said: Hello' "${json[@]}" --data "$chat" "$url/v1/chat/completions"
ask 200 'data: [DONE]' --no-buffer "${json[@]}" --data "$stream" "$url/v1/chat/completions"
ask 404 'Not Found' "$url/nothing"
ask 200 '' --head "$url/health"
# An upload of 3 MB, and one that is refused while it is sent
head --bytes 3000000 /dev/zero | tr '\0' x >"$folder/large"
printf '{"model": "ollama/llama3.2", "messages": [{"role": "user", "content": "%s"}]}' "$(cat "$folder/large")" >"$folder/large.json"
ask 200 'You said' "${json[@]}" --data-binary "@$folder/large.json" "$url/v1/chat/completions"
head --bytes 30000000 /dev/zero >"$folder/huge"
ask 413 'larger than' "${json[@]}" --data-binary "@$folder/huge" "$url/v1/chat/completions"
# Five transfers of one curl share a connection
ask 200 'You said: Hello' --parallel "${json[@]}" --data "$chat" \
    "$url/v1/chat/completions" "$url/v1/chat/completions" "$url/v1/chat/completions" "$url/v1/chat/completions"

# load NAME: 2000 requests by 10 connections of 10 streams, none may fail
load() {
    local told
    told=$(h2load --requests=2000 --clients=10 --max-concurrent-streams=10 --data="$folder/$1.json" \
        --header='content-type: application/json' "$url/v1/chat/completions") || fail "h2load $1: $told"
    grep --quiet '2000 succeeded, 0 failed, 0 errored, 0 timeout' <<<"$told" || fail "h2load $1: $told"
    grep --quiet 'status codes: 2000 2xx' <<<"$told" || fail "h2load $1: $told"
    grep --extended-regexp 'finished in|time for request' <<<"$told"
}
load chat
load stream

told=$(nghttp --no-verify-peer --data="$folder/stream.json" --header='content-type: application/json' \
    "$url/v1/chat/completions" 2>&1) || fail "nghttp: $told"
[[ $told == *'data: [DONE]'* ]] || fail "nghttp: $told"
