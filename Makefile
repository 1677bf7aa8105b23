# A thin menu over cargo and `cargo xtask`, which holds the logic. `make help` lists it.

LISTEN ?= 127.0.0.1:8080
DATA_DIR ?= build/data
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help build run dev run-controller run-worker docker-up docker-down migrate-up test test-all e2e check deny bench gen fmt clean
.PHONY: setup-images install-firecracker build-runtime-images

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile

build: ## release build: build/impuls and build/impuls-server, the same program
	@cargo build --release --bin impuls
	@mkdir -p build
	@ln -f $(TARGET_DIR)/release/impuls build/impuls 2>/dev/null || install $(TARGET_DIR)/release/impuls build/impuls
	@ln -f build/impuls build/impuls-server

run: ## build, serve on LISTEN (127.0.0.1:8080) from DATA_DIR (build/data), deploy the examples
	@scripts/run.sh check $(LISTEN)
	@$(MAKE) --no-print-directory build
	@scripts/run.sh serve $(LISTEN) $(DATA_DIR)

dev: ## serve a debug build on LISTEN from a scratch folder that is removed afterwards
	@cargo build --bin impuls
	@scripts/dev.sh $(LISTEN) $(TARGET_DIR)/debug/impuls

run-controller: build ## a controller on LISTEN, with the database of migrate-up (docs/cluster.md)
	@scripts/migrate.sh controller --listen $(LISTEN) --data-dir $(DATA_DIR)

run-worker: build ## a worker on 127.0.0.1:7070, with the database of migrate-up and the code of DATA_DIR
	@mkdir -p $(DATA_DIR)
	@scripts/migrate.sh worker --listen 127.0.0.1:7070 --data-dir $(DATA_DIR)

docker-up: ## start PostgreSQL and Redis of compose.yaml in Docker, on 127.0.0.1
	@docker compose --profile cluster up --detach --wait postgres redis

docker-down: ## stop every container of compose.yaml; what they stored stays in their volumes
	@docker compose --profile dev --profile cluster down

migrate-up: build ## make the tables in the database of DB_… or IMPULS_DB_CONN, else in that of docker-up
	@scripts/migrate.sh

test: ## every test; installs what it needs and names what it left out
	@cargo xtask test

test-all: check deny test ## the static checks, the dependency rules and every test

e2e: ## only the end-to-end tests: the real binary over HTTP
	@cargo xtask test --only e2e

check: ## fmt, clippy, tidy, doc links, generated files, deny, unit tests
	@cargo xtask check

deny: ## the rules of deny.toml; installs cargo-deny the first time (minutes)
	@cargo xtask deny

bench: build ## figures beside peers and budgets (docs/benchmarks.md); ARGS=--quick for a first look
	@command -v wrk >/dev/null && command -v crun >/dev/null || cargo xtask setup
	@cargo run --quiet --release --package impuls-bench -- $(ARGS)

gen: ## write generated files: openapi/impuls.json
	@cargo xtask gen

setup-images: build ## a guest kernel and a root file system in DATA_DIR/images (/var/lib/impuls/images)
	@scripts/setup-images.sh

install-firecracker: ## Firecracker and its jailer from an official release, verified
	@scripts/install-firecracker.sh

build-runtime-images: build ## the runtime images of GoFaas, loaded into Docker where it answers
	@scripts/build-runtime-images.sh

fmt: ## format the Rust code
	@cargo fmt --all

clean: ## remove what was built; the data of `make run` in build/data stay
	@cargo clean
	@rm -f build/impuls build/impuls-server
