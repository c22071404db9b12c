#!/usr/bin/env python3
"""Prints the source folders of the crates this project is built from, one per line.

They are the demo's training text: real code that every machine which built the project has.
The order is by name and version, so one Cargo.lock gives one corpus.
"""

import json
import os
import subprocess
import sys

# Generated code: large, and so repetitive that a loss on it says little.
GENERATED = {"k8s-openapi", "linux-raw-sys", "libc", "windows-sys"}


def main():
    command = ["cargo", "metadata", "--format-version", "1",
               "--filter-platform", "x86_64-unknown-linux-gnu"]
    packages = json.loads(subprocess.check_output(command))["packages"]
    chosen = [p for p in packages if p["source"] and p["name"] not in GENERATED]
    for package in sorted(chosen, key=lambda p: (p["name"], p["version"])):
        folder = os.path.join(os.path.dirname(package["manifest_path"]), "src")
        if os.path.isdir(folder):
            print(folder)


if __name__ == "__main__":
    sys.exit(main())
