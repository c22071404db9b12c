# The image `heteroloco`: operator, coordinator and command line.
#
#   docker build -f docker/operator.Dockerfile -t heteroloco .
#   docker build -f docker/operator.Dockerfile -t heteroloco --target prebuilt .
#
# The second takes the programs of target/release instead of compiling (`make build` on a system whose
# glibc is no newer than the runtime's). Any builder that skips stages that a target does not need will
# do: BuildKit, buildah.

ARG BUILD_BASE=rust:1.95-bookworm
ARG RUNTIME_BASE=debian:bookworm-slim

FROM ${RUNTIME_BASE} AS runtime
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="heteroloco" \
      org.opencontainers.image.description="Operator, coordinator and command line of HeteroLoCo" \
      org.opencontainers.image.source="https://github.com/heteroloco/heteroloco" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /usr/share/doc/heteroloco/LICENSE
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/heteroloco-operator"]

FROM runtime AS prebuilt
COPY --chmod=0755 target/release/heteroloco target/release/heteroloco-coordinator \
     target/release/heteroloco-operator target/release/kubectl-island /usr/local/bin/

FROM ${BUILD_BASE} AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p cli -p coordinator -p kubectl-island -p operator

FROM runtime
COPY --from=build --chmod=0755 /src/target/release/heteroloco \
     /src/target/release/heteroloco-coordinator /src/target/release/heteroloco-operator \
     /src/target/release/kubectl-island /usr/local/bin/
