#!/usr/bin/env python3
"""Puts what bench/gpu/check.py needs into one folder, for a machine with a GPU but without Rust.

Reads on standard input what `cargo test --no-run --message-format json` says of the worker's tests.
The folder is replaced, and refused where it is larger than what such machines are sent.
"""

import argparse
import gzip
import json
import pathlib
import shutil
import subprocess
import sys

BYTES_MAX = 60 << 20
SCRIPTS = ("check.py", "report.py", "rival.py", "on_card.py")
TESTS = ("cuda-tests", "sharded-tests")
PROGRAMS = ("heteroloco", "heteroloco-worker", "heteroloco-coordinator", "card", "memory", "codec")


def tests(lines):
    """The executables of the tests by their names in the pack, out of cargo's messages."""
    paths = {}
    for message in (json.loads(line) for line in lines if line.startswith("{")):
        target = message.get("target", {})
        if "test" in target.get("kind", []) and message.get("executable"):
            paths[f"{target['name']}-tests"] = pathlib.Path(message["executable"])
    if sorted(paths) != sorted(TESTS):
        sys.exit(f"gpu-pack: cargo names {sorted(paths)}, {sorted(TESTS)} are expected")
    return paths


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=pathlib.Path, required=True, help="target/release")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="token shards")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to replace")
    arguments = parser.parse_args()
    here = pathlib.Path(__file__).resolve().parent.parent / "bench" / "gpu"
    programs = {name: arguments.target / name for name in PROGRAMS}
    programs |= tests(sys.stdin)
    new = arguments.out.with_name(arguments.out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    (new / "bin").mkdir(parents=True)
    for name, path in programs.items():
        stripped = new / "bin" / name
        subprocess.run(["strip", "-o", stripped, path], check=True)
        with gzip.open(stripped.with_name(f"{name}.gz"), "wb") as target:
            target.write(stripped.read_bytes())
        stripped.unlink()
    for name in SCRIPTS:
        shutil.copy(here / name, new / name)
    shutil.copytree(arguments.data, new / "data")
    found = size(new)
    if found > BYTES_MAX:
        sys.exit(f"gpu-pack: {new} has {found >> 20} MiB, {BYTES_MAX >> 20} are sent at most")
    shutil.rmtree(arguments.out, ignore_errors=True)
    new.rename(arguments.out)
    print(f"{arguments.out}: {found / (1 << 20):.1f} MiB. On the machine with the GPU:\n"
          f"  python3 {arguments.out}/check.py --out FOLDER")


if __name__ == "__main__":
    main()
