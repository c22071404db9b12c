#!/usr/bin/env bash
# What `make demo` does once everything is built: data, run, sample, export.
set -euo pipefail

heteroloco=$1
own_text=${2:-}
run=runs/demo

if [ -n "$own_text" ]; then
    data=runs/data-own
    rm -rf "$data"
    "$heteroloco" data prepare --tokenizer byte --out "$data" --input "$own_text"
else
    data=runs/data
    "${PYTHON:-python3}" scripts/rust-sources.py |
        xargs -x -d '\n' "$heteroloco" data prepare --tokenizer byte --out "$data" --input
fi

rm -rf "$run"
"$heteroloco" up -f examples/quickstart.yaml --data "$data" --run-dir "$run"

checkpoint=$(find "$run/checkpoints" -mindepth 2 -maxdepth 2 -type d | sort | tail -n 1)
printf '\nA sample of what the model writes:\n\n'
"$heteroloco" generate --checkpoint "$checkpoint" --prompt 'pub fn '
printf '\n'
"$heteroloco" export --checkpoint "$checkpoint" --out "$run/huggingface"
