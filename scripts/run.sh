#!/bin/sh
# `make run`: `check ADDR:PORT` says what is missing before the build costs time; `serve ADDR:PORT DATA_DIR` becomes
# the server and, once it answers, deploys the examples and prints a call to paste.
set -eu
cd "$(dirname "$0")/.."

fail() {
  printf 'make run: %s\n' "$1" >&2
  exit 1
}

# need PROGRAM SENTENCE: stops with the sentence unless the program is there.
need() {
  command -v "$1" >/dev/null 2>&1 || fail "$1 is missing. $2"
}

check() {
  need cargo "Install the Rust toolchain: https://rustup.rs"
  need cc "The SQLite library is compiled from C. Debian and Ubuntu: sudo apt-get install gcc libc6-dev"
  need curl "Debian and Ubuntu: sudo apt-get install curl"
  need node "The Node example needs Node.js 20 or later. Debian and Ubuntu: sudo apt-get install nodejs"
  need python3 "The Python example needs Python 3.9 or later. Debian and Ubuntu: sudo apt-get install python3"
  node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' ||
    fail "Node.js $(node --version) is too old. Install 20 or later: package nodejs of Debian 13, or https://nodejs.org"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
    fail "$(python3 --version) is too old. Install 3.9 or later: package python3"
  refuse_taken_address
}

# curl ends with 7 when nobody listens; with every other code somebody does.
refuse_taken_address() {
  status=0
  curl --silent --output /dev/null --max-time 1 --noproxy '*' "http://$listen/" || status=$?
  [ "$status" -eq 7 ] ||
    fail "$listen is taken by another program. Stop it, or choose: make run LISTEN=127.0.0.1:8081"
}

healthy() {
  curl --silent --fail --output /dev/null --max-time 1 --noproxy '*' "http://$listen/health"
}

# An example that is already there is left alone, so that the second start is quick.
deploy() {
  build/impuls --server "http://$listen" get "$1" >/dev/null 2>&1 ||
    build/impuls --server "http://$listen" deploy "examples/$1"
}

# Runs beside the server; ends with it.
introduce() {
  until kill -0 "$server" 2>/dev/null && healthy; do
    kill -0 "$server" 2>/dev/null || exit 0
    sleep 0.1
  done
  for example in hello-node hello-python; do
    deploy "$example" || {
      printf 'make run: cannot deploy examples/%s; the server runs on without it\n' "$example" >&2
      [ "$example" != hello-node ] || exit 1
    }
  done
  printf '\nImpuls listens on http://%s (Ctrl-C stops it). Paste this in another terminal:\n\n' "$listen"
  printf "  curl -d '{\"name\": \"World\"}' http://%s/api/v1/functions/hello-node/invoke\n\n" "$listen"
}

command=$1
listen=$2
case "$command" in
check) check ;;
serve)
  refuse_taken_address
  mkdir -p "$3"
  data=$(cd "$3" && pwd)
  server=$$ # exec keeps the process id
  introduce &
  # The server takes this process, so Ctrl-C reaches it once and its exit status is ours.
  exec build/impuls serve --listen "$listen" --data-dir "$data"
  ;;
*) fail "unknown command $command" ;;
esac
