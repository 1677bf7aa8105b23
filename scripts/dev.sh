#!/bin/sh
# `make dev`: serves a debug build (ADDR:PORT PROGRAM) from a scratch folder and removes the folder afterwards.
set -eu
cd "$(dirname "$0")/.."

folder=$(mktemp -d "${TMPDIR:-/tmp}/impuls-dev.XXXXXX")
trap 'rm -rf "$folder"' EXIT
# Ctrl-C reaches the server through the terminal; this shell only waits for it, then cleans up.
trap : INT
trap 'kill -TERM "$server" 2>/dev/null || :' TERM

"$2" serve --listen "$1" --data-dir "$folder" </dev/null &
server=$!
status=0
while kill -0 "$server" 2>/dev/null; do
  status=0
  wait "$server" || status=$?
done
exit "$status"
