#!/usr/bin/env bash
# fake-gpus.sh NODE PRODUCT MIB COUNT: makes a node say what NVIDIA's device plugin and GPU feature
# discovery say of a node with cards. For trials with `emulate: true`: there is nothing behind it.
set -euo pipefail

node=$1 product=$2 mib=$3 count=$4

kubectl label node "$node" --overwrite "nvidia.com/gpu.product=$product" \
    "nvidia.com/gpu.memory=$mib" "nvidia.com/gpu.count=$count"
kubectl patch node "$node" --subresource=status --type=merge --patch \
    "{\"status\":{\"capacity\":{\"nvidia.com/gpu\":\"$count\"},
      \"allocatable\":{\"nvidia.com/gpu\":\"$count\"}}}"
