#!/usr/bin/env bash
# prepare-data.sh HETEROLOCO OUT [PATH]: token shards of PATH's text, or of the Rust sources of the
# crates that this project is built from. Does nothing when they are there already.
# PREPARE has further options of `heteroloco data prepare`, such as --allow-passed-over.
set -euo pipefail

heteroloco=$1
out=$2
own_text=${3:-}
read -ra more <<<"${PREPARE:-}"

if [ -n "$own_text" ]; then
    "$heteroloco" data prepare --tokenizer byte --out "$out" --input "$own_text" "${more[@]}"
else
    "${PYTHON:-python3}" "$(dirname "$0")/rust-sources.py" |
        xargs -x -d '\n' "$heteroloco" data prepare --tokenizer byte --out "$out" --allow-passed-over --input
fi
