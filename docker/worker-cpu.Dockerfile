# The image `heteroloco-worker` with the tag `<version>-cpu`: a rank without a GPU, such as one that
# emulates a card.
#
#   docker build -f docker/worker-cpu.Dockerfile -t heteroloco-worker:cpu .
#   docker build -f docker/worker-cpu.Dockerfile -t heteroloco-worker:cpu --target prebuilt \
#     --build-context libtorch=~/.cache/heteroloco/libtorch-2.11.0-cpu .
#
# The second takes target/release/heteroloco-worker and the libtorch of `make setup` instead of
# compiling and downloading.

ARG BUILD_BASE=rust:1.95-bookworm
ARG RUNTIME_BASE=debian:bookworm-slim

FROM ${RUNTIME_BASE} AS runtime
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="heteroloco-worker" \
      org.opencontainers.image.description="A rank of HeteroLoCo, with libtorch for CPU" \
      org.opencontainers.image.source="https://github.com/heteroloco/heteroloco" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /usr/share/doc/heteroloco/LICENSE
# Comes before the folder that the program was built with. Idle OpenMP threads sleep: spinning ones
# starve the other ranks of a machine.
ENV LD_LIBRARY_PATH=/opt/libtorch/lib OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/heteroloco-worker"]

FROM runtime AS prebuilt
COPY --from=libtorch LICENSE /opt/libtorch/LICENSE
COPY --from=libtorch lib /opt/libtorch/lib
COPY --chmod=0755 target/release/heteroloco-worker /usr/local/bin/

FROM ${BUILD_BASE} AS build
# To find and fetch libtorch's wheels with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# A layer of its own: sources change more often than libtorch.
COPY scripts/setup-libtorch.py scripts/
RUN HETEROLOCO_CACHE=/opt/cache python3 scripts/setup-libtorch.py \
    && mv /opt/cache/libtorch-*-cpu /opt/libtorch
COPY . .
RUN LIBTORCH=/opt/libtorch cargo build --locked --release -p worker

FROM runtime
COPY --from=build /opt/libtorch/LICENSE /opt/libtorch/LICENSE
COPY --from=build /opt/libtorch/lib /opt/libtorch/lib
COPY --from=build --chmod=0755 /src/target/release/heteroloco-worker /usr/local/bin/
