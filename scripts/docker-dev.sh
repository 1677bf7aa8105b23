#!/bin/sh
# Development mode in Docker: builds the image if it is not there, starts a server that keeps everything in one volume,
# and waits until it is ready.
set -eu
cd "$(dirname "$0")/.."

command -v docker >/dev/null 2>&1 || {
  printf 'docker-dev: docker is missing. Without it: make dev\n' >&2
  exit 1
}
docker compose --profile dev up --detach --wait impuls-dev
printf 'Impuls listens on http://127.0.0.1:%s\n' "${IMPULS_HOST_PORT:-8080}"
printf 'Its log: docker compose --profile dev logs -f impuls-dev; to stop it: docker compose --profile dev down\n'
