#!/bin/sh
# `make migrate-up`: makes the tables, or brings them up to date, in the database of IMPULS_DB_CONN, DB_CONN,
# DATABASE_URL, DB_DSN or DB_HOST and the others; without any of them in that of `make docker-up`.
set -eu
cd "$(dirname "$0")/.."

# setting NAME DEFAULT: from the environment, else from .env as docker compose reads it, else the default.
setting() {
  value=$(printenv "$1" || sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1)
  printf '%s' "${value:-$2}"
}

given="${IMPULS_DB_CONN:-}${DB_CONN:-}${DATABASE_URL:-}${DB_DSN:-}${DB_HOST:-}${DB_PORT:-}${DB_USER:-}${DB_PASSWORD:-}"
if [ -z "$given${DB_NAME:-}" ]; then
  DB_HOST=127.0.0.1 DB_USER=impuls DB_NAME=impuls
  DB_PORT=$(setting IMPULS_POSTGRES_PORT 5432)
  DB_PASSWORD=$(setting IMPULS_DB_PASSWORD impuls123)
  export DB_HOST DB_USER DB_NAME DB_PORT DB_PASSWORD
fi
exec build/impuls store apply
