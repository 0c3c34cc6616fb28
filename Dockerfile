# Both images of the project: `--target node` and `--target operator`.
#
# Built from source by default. Where no crate registry can be reached from a build, or binaries are there already, they are
# taken from a folder of the build context instead: `--build-arg BIN_SOURCE=prebuilt --build-arg BIN_DIR=target/dist`.
# The folder needs only the binary of the target that is built.

ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
# A C library, CA certificates, time zones and nothing else; no shell.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
# compiled | prebuilt
ARG BIN_SOURCE=compiled

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# The image has the compiler that rust-toolchain.toml names; rustup need not look for another.
ENV RUSTUP_TOOLCHAIN=1.95
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY node node
COPY operator operator
COPY tests/Cargo.toml tests/Cargo.toml
COPY tests/src tests/src
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --package aitbc-node --package aitbc-operator --bins && \
    install -D -t /out target/dist/aitbc-node target/dist/aitbc-operator

FROM scratch AS node-compiled
COPY --from=build /out/aitbc-node /

FROM scratch AS node-prebuilt
ARG BIN_DIR=target/dist
COPY ${BIN_DIR}/aitbc-node /

FROM scratch AS operator-compiled
COPY --from=build /out/aitbc-operator /

FROM scratch AS operator-prebuilt
ARG BIN_DIR=target/dist
COPY ${BIN_DIR}/aitbc-operator /

FROM node-${BIN_SOURCE} AS node-binary
FROM operator-${BIN_SOURCE} AS operator-binary

FROM ${RUNTIME_IMAGE} AS node
COPY --from=node-binary --chmod=0755 /aitbc-node /usr/local/bin/aitbc-node
USER 65532:65532
# RPC, WebSocket subscriptions, gossip, admin (loopback), metrics
EXPOSE 9080 9081 9082 9083 9090
ENTRYPOINT ["/usr/local/bin/aitbc-node"]
CMD ["run"]

FROM ${RUNTIME_IMAGE} AS operator
COPY --from=operator-binary --chmod=0755 /aitbc-operator /usr/local/bin/aitbc-operator
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/aitbc-operator"]
CMD ["run"]
