"""Stands in for `heteroloco-worker` when check.py has two islands share one card.

A plan gives every card once, so the islands are planned onto emulated cards. This gives each of
their ranks the first CUDA device in the place of its emulated one, and becomes the real worker.
Set by check.py: CHECK_WORKER, the worker; CHECK_DEVICE, what takes the place of a CPU device as
JSON; empty leaves the ranks on the CPU.
"""

import json
import os
import sys


def on_card(spec, device):
    for rank in spec["island"]["ranks"]:
        for card in rank["devices"]:
            if card["device"]["kind"] == "cpu":
                card["device"] = device
    return spec


def main():
    worker, device = os.environ["CHECK_WORKER"], os.environ["CHECK_DEVICE"]
    arguments = sys.argv[1:]
    if device and "--spec" in arguments:
        at = arguments.index("--spec") + 1
        with open(arguments[at], encoding="utf-8") as file:
            spec = on_card(json.load(file), json.loads(device))
        # All ranks of an island have one file: each writes its own.
        arguments[at] += f".on-card-{os.getpid()}"
        with open(arguments[at], "w", encoding="utf-8") as file:
            json.dump(spec, file)
    os.execv(worker, [worker, *arguments])


if __name__ == "__main__":
    main()
