#!/usr/bin/env bash
# demo.sh HETEROLOCO DATA: what `make demo` does once everything is built: run, sample, export.
set -euo pipefail

heteroloco=$1
data=$2
run=runs/demo

rm -rf "$run"
"$heteroloco" up -f examples/quickstart.yaml --data "$data" --run-dir "$run"
"${PYTHON:-python3}" scripts/demo-figures.py "$run/summary.json"

# The islands' replicas are identical: any island's newest checkpoint will do.
checkpoint=$run/checkpoints/dc
printf '\na sample of what the model writes after "pub fn ", and the model as a folder for transformers: seconds\n\n'
"$heteroloco" generate --checkpoint "$checkpoint" --prompt 'pub fn ' --temperature 0.8
printf '\n'
"$heteroloco" export --checkpoint "$checkpoint" --out "$run/huggingface"
