#!/usr/bin/env bash
# The first five minutes, in a network of its own: the usual ports are free there, and nobody else's.
# first.sh SCENE, with the gateway's program in CORELANE and the working directory empty.
set -euo pipefail

ip link set lo up
all=()
trap 'kill -KILL "${all[@]}" $(cat screen.pid 2>/dev/null) 2>/dev/null || true' EXIT
trap "exit 1" TERM

fail() { echo "failed: $*"; cat -- *.out *.err 2>/dev/null; exit 1; }

# start NAME ARGUMENTS…: in the background; its output in NAME.out and NAME.err, its process in $started
start() {
    local name=$1
    shift
    "$CORELANE" "$@" >"$name.out" 2>"$name.err" &
    started=$!
    all+=("$started")
}

# until_said WORDS FILE: within 20 s
until_said() {
    for _ in $(seq 400); do
        grep --quiet --fixed-strings -- "$1" "$2" 2>/dev/null && return 0
        sleep 0.05
    done
    fail "no '$1' in $2"
}

# until_listed MODEL PORT: within 20 s the gateway serves it
until_listed() {
    for _ in $(seq 400); do
        curl --silent --max-time 5 "http://127.0.0.1:$2/v1/models" | grep --quiet "\"$1" && return 0
        sleep 0.05
    done
    fail "no model $1 on port $2"
}

server() {
    start "sim-$1" sim --listen "127.0.0.1:$1" --model "$2"
    until_said ready "sim-$1.out"
}

# ends PROCESS SIGNAL: with exit code 0
ends() {
    kill "-$2" "$1"
    wait "$1" || fail "exit code $? after $2"
}

# Without any server it says what to do, and serves the one that is started then.
nobody() {
    start gateway serve
    local gateway=$started
    until_said 'ready http=127.0.0.1:8000 admin=127.0.0.1:8001' gateway.out
    for words in 'no model server answers' 'Ollama at http://127.0.0.1:11434' 'vLLM at http://127.0.0.1:8000' \
        'llama.cpp at http://127.0.0.1:8080' 'ollama serve' 'corelane demo' 'corelane import' '> corelane.toml'; do
        grep --quiet --fixed-strings -- "$words" gateway.err || fail "it does not say '$words'"
    done
    server 11434 llama3.2:latest
    until_listed llama3.2 8000
    [[ $(wc --lines <gateway.out) == 1 ]] || fail "one line for programs, no more"
    ends "$gateway" TERM
}

# Each usual server is found, and the gateway leaves vLLM its port; the variable of Ollama is read too.
everybody() {
    server 11434 llama3.2:latest
    server 8000 qwen
    server 8080 gemma
    server 5000 mistral:latest
    OLLAMA_HOST=0.0.0.0:5000 start gateway serve
    local gateway=$started
    until_said 'ready http=127.0.0.1:4000 admin=127.0.0.1:8001' gateway.out
    for words in 'http://127.0.0.1:5000 with 1 model: mistral:latest' 'http://127.0.0.1:11434 with 1 model: llama3.2:latest' \
        'http://127.0.0.1:8000 with 1 model: qwen' 'http://127.0.0.1:8080 with 1 model: gemma' 'port 4000'; do
        grep --quiet --fixed-strings -- "$words" gateway.err || fail "it does not say '$words'"
    done
    for model in mistral llama3.2 qwen gemma; do
        until_listed "$model" 4000
        curl --silent --max-time 10 http://127.0.0.1:4000/v1/chat/completions \
            -d "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}" |
            grep --quiet 'You said: Hello' || fail "$model does not answer"
    done
    ends "$gateway" TERM
}

# A terminal gets a banner, whose request works; a second gateway does not share the port in silence.
terminal() {
    server 11434 llama3.2:latest
    script --quiet --flush --return --command 'echo $$ >screen.pid; exec "$CORELANE" serve' screen.out >/dev/null </dev/null &
    local screen=$!
    all+=("$screen")
    until_said 'Ctrl-C ends it' screen.out
    tr --delete '\r' <screen.out >screen.txt
    for words in ' serves.' 'address    http://127.0.0.1:8000' 'admin      http://127.0.0.1:8001' \
        'endpoints  ollama http://127.0.0.1:11434' 'models     1: llama3.2:latest' 'guards     off' 'keys       off' \
        'shards     '; do
        grep --quiet --fixed-strings -- "$words" screen.txt || fail "the banner does not say '$words'"
    done
    grep --quiet '^ready ' screen.txt && fail "the line for programs is on the terminal"
    bash -c "$(grep --only-matching 'curl .*' screen.txt)" 2>/dev/null | grep --quiet 'You said: Hello' || fail "its request"
    start second serve
    wait "$started" && fail "a second gateway on the same port"
    grep --quiet "cannot listen on 127.0.0.1:8000.*ss -ltnp 'sport = :8000'.*server.listen" second.err || fail "why not"
    kill -INT "$(cat screen.pid)"
    wait "$screen" || fail "exit code $? after Ctrl-C"
}

# The demo works, where its ports are taken too; Ctrl-C ends it, and it says what to do next.
demo() {
    start demo demo
    local first=$started
    until_said 'Ctrl-C ends it' demo.out
    grep --quiet '^ready http=127.0.0.1:8000 https=.* admin=127.0.0.1:8001 ' demo.out || fail "the line for programs"
    until_listed ollama/llama3.2 8000
    bash -c "$(grep --max-count 1 '^curl .*Hello' demo.out)" 2>/dev/null | grep --quiet 'You said: Hello' || fail "its chat"
    start other demo
    local second=$started
    until_said 'Ctrl-C ends it' other.out
    grep --quiet 'ports 8000 and 8001' other.err || fail "it does not say that it takes others"
    bash -c "$(grep --max-count 1 '^curl .*Hello' other.out)" 2>/dev/null | grep --quiet 'You said: Hello' || fail "the other"
    for process in "$first" "$second"; do ends "$process" INT; done
    for out in demo.out other.out; do
        for words in 'The demo has ended' 'corelane serve' 'corelane import' 'corelane check'; do
            grep --quiet --fixed-strings -- "$words" "$out" || fail "it does not say '$words'"
        done
    done
}

"$1"
