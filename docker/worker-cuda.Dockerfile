# The image `heteroloco-worker` with the tag `<version>-cuda`: a rank with GPUs.
#
#   docker build -f docker/worker-cuda.Dockerfile -t heteroloco-worker:cuda .
#   docker build -f docker/worker-cuda.Dockerfile -t heteroloco-worker:cuda --target prebuilt .
#
# The second takes target/release/heteroloco-worker instead of compiling. Both download libtorch 2.11
# with CUDA 13: the same program, linked against the CPU libtorch, uses it when it comes first
# (docs/gpu-hosts.md). What it needs:
# - to build: gigabytes of downloads and several times that on disk; no GPU and no CUDA toolkit;
# - to run: NVIDIA's container toolkit on the node and a driver of the 580 branch or later, which CUDA
#   13 asks for; the driver's libraries come from the node. Volta and older cards are not in this
#   libtorch: it wants compute capability 7.5 or later.

ARG BUILD_BASE=rust:1.95-bookworm
ARG RUNTIME_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS libtorch
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY docker/libtorch-cuda.txt /
# The libraries find each other by paths relative to their own: the tree stays as it is, without what
# is Python's or for compiling.
RUN python3 -m pip install --quiet --no-cache-dir --no-deps --only-binary :all: --require-hashes \
      --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
      --platform manylinux_2_25_x86_64 --platform manylinux_2_18_x86_64 \
      --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
      --platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 \
      --target /opt/libtorch --requirement /libtorch-cuda.txt \
    && find /opt/libtorch -type f ! -name '*.so' ! -name '*.so.*' ! -iname '*licen[cs]e*' \
      ! -iname 'notice*' -delete \
    && rm -f /opt/libtorch/torch/lib/libtorch_python.so \
    && find /opt/libtorch -depth -type d -empty -delete

FROM ${RUNTIME_BASE} AS runtime
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="heteroloco-worker" \
      org.opencontainers.image.description="A rank of HeteroLoCo, with libtorch for CUDA" \
      org.opencontainers.image.source="https://github.com/heteroloco/heteroloco" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND LicenseRef-NVIDIA-CUDA-EULA" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /usr/share/doc/heteroloco/LICENSE
COPY --from=libtorch /opt/libtorch /opt/libtorch
# `utility` brings NVML, by which a rank learns how full its card is.
ENV LD_LIBRARY_PATH=/opt/libtorch/torch/lib NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/heteroloco-worker"]

FROM runtime AS prebuilt
COPY --chmod=0755 target/release/heteroloco-worker /usr/local/bin/

FROM ${BUILD_BASE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY scripts/setup-libtorch.py scripts/
RUN HETEROLOCO_CACHE=/opt/cache python3 scripts/setup-libtorch.py \
    && mv /opt/cache/libtorch-*-cpu /opt/libtorch
COPY . .
RUN LIBTORCH=/opt/libtorch cargo build --locked --release -p worker

FROM runtime
COPY --from=build --chmod=0755 /src/target/release/heteroloco-worker /usr/local/bin/
