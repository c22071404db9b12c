#!/usr/bin/env python3
"""demo-figures.py SUMMARY: what the demo reached, a `figure NAME VALUE UNIT` line each."""

import json
import sys


def figures(summary):
    """Names, values and units, of what there is."""
    wire = summary["wire"]
    first, last = summary["heldoutFirst"], summary["heldoutLast"]
    yield "demo.heldout_loss_first", first and first[1], "nats/token"
    yield "demo.heldout_loss_last", last and last[1], "nats/token"
    yield "demo.rounds", summary["rounds"], "-"
    yield "demo.replicas_identical", summary["replicasIdentical"], "-"
    yield "demo.wall_s", summary["wallSeconds"], "s"
    yield "wire.bits_per_value", wire["bitsPerValue"], "bit"
    yield "wire.ratio_to_f32", wire["ratioToF32"], "-"
    for name, island in sorted(summary["islands"].items()):
        found = island["calibration"]
        if found:
            error = 100 * (found["plannedSeconds"] / found["measuredSeconds"] - 1)
            yield f"plan.step_error_percent.{name}", error, "%"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        summary = json.load(file)
    for name, value, unit in figures(summary):
        if value is not None:
            print(f"figure {name} {round(float(value), 4):g} {unit}")


if __name__ == "__main__":
    main()
