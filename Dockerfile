# The image of compose.yaml and deploy/kubernetes. Which privileges its sandboxes need: docs/deployment.md.
ARG BUILD_IMAGE=rust:1.95-slim-trixie
ARG RUN_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin impuls && install target/release/impuls /usr/local/bin/impuls

FROM ${RUN_IMAGE}
# Languages of functions; `impuls doctor` names the packages of others.
ARG LANGUAGES="nodejs npm python3 python3-pip"
# nftables and passt are the network of functions, curl asks whether the server is well, tini is process 1.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates curl nftables passt tini ${LANGUAGES} \
  && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/impuls /usr/local/bin/impuls
RUN ln -s impuls /usr/local/bin/impuls-server \
  && useradd --uid 10001 --user-group --home-dir /var/lib/impuls --no-create-home --shell /usr/sbin/nologin impuls \
  && install -d -o 10001 -g 10001 -m 0700 /var/lib/impuls /var/lib/impuls/artifacts
USER 10001:10001
ENV HOME=/var/lib/impuls IMPULS_DATA_DIR=/var/lib/impuls
VOLUME /var/lib/impuls
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "impuls"]
CMD ["serve"]
