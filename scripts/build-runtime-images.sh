#!/bin/sh
# `make build-runtime-images`: the runtime images of GoFaas under their names, for Docker where it answers.
set -eu
cd "$(dirname "$0")/.."

program=${IMPULS_PROGRAM:-build/impuls}
folder=${1:-build}
mkdir -p "$folder"
docker info >/dev/null 2>&1 && docker=yes || docker=no

# image NAME RUNTIME: Go programs are compiled when they are deployed, so theirs needs no compiler.
image() {
  "$program" image build "$2" --oci --tag "$1:latest" --output "$folder/$1.tar"
  [ "$docker" = no ] || docker load --input "$folder/$1.tar"
}

image faas-runtime-go provided
image faas-runtime-python python
image faas-runtime-nodejs nodejs
if [ "$docker" = no ]; then
  printf 'No Docker answers here; elsewhere: docker load --input %s/faas-runtime-go.tar, and so on\n' "$folder"
fi
