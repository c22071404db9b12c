#!/usr/bin/env bash
# prepare-data.sh HETEROLOCO OUT [PATH]: token shards of PATH's text, or of the Rust sources of the
# crates that this project is built from. Does nothing when they are there already.
set -euo pipefail

heteroloco=$1
out=$2
own_text=${3:-}

if [ -n "$own_text" ]; then
    "$heteroloco" data prepare --tokenizer byte --out "$out" --input "$own_text"
else
    "${PYTHON:-python3}" "$(dirname "$0")/rust-sources.py" |
        xargs -x -d '\n' "$heteroloco" data prepare --tokenizer byte --out "$out" --input
fi
