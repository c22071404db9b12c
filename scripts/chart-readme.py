#!/usr/bin/env python3
"""Writes the table of values into the chart's README, out of the comments in values.yaml.

Every value has a comment above it, and values.schema.json knows the same values: whatever is
missing on either side is an error. Only the part of YAML that values.yaml needs is understood:
keys, two spaces a level, lists and maps that are values on one line.
"""

import json
import os
import re
import sys

CHART = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "charts", "heteroloco")
BEGIN, END = "<!-- values: made by `make gen` -->", "<!-- /values -->"
KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):(?: +(\S.*))?$")
# What Helm itself gives every chart.
HELMS_OWN = {"global"}


class Failure(Exception):
    """Carries the sentence that says what to mend."""


def values(text):
    """Each value of the text as (path, default, comment); maps that have a comment are values too,
    with the default None."""
    found, path, comment = [], [], []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            comment = []
        elif line.lstrip().startswith("#"):
            comment.append(line.lstrip()[1:].strip())
        else:
            key = KEY.match(line)
            if not key or len(key[1]) % 2 or len(key[1]) // 2 > len(path):
                raise Failure(f"values.yaml:{number}: write `key: value`, two spaces a level, with "
                              "lists and maps that are values on one line")
            path = path[:len(key[1]) // 2] + [key[2]]
            if key[3] is None and not is_deeper(lines[number:], len(key[1])):
                raise Failure(f"values.yaml:{number}: {key[2]} has no value: write one, or an "
                              "empty one")
            if key[3] is not None and not comment:
                raise Failure(f"values.yaml:{number}: say in a comment above what "
                              f"{'.'.join(path)} does")
            if comment:
                found.append((".".join(path), key[3], " ".join(comment)))
            comment = []
    return found


def is_deeper(lines, indent):
    """Whether the next key stands deeper."""
    keys = (KEY.match(line) for line in lines)
    return next((len(key[1]) > indent for key in keys if key), False)


def paths_of(schema, prefix=""):
    """Paths of the schema's values: what has named properties is no value itself."""
    for name, child in schema["properties"].items():
        if prefix or name not in HELMS_OWN:
            inner = paths_of(child, f"{prefix}{name}.") if "properties" in child else None
            yield from inner if inner else [prefix + name]


def compare(found, schema):
    """Values and schema have the same paths; below a schema's free maps everything goes."""
    known = set(paths_of(schema))
    free = tuple(f"{path}." for path in known)
    leaves = {path for path, default, _ in found if default is not None}
    unknown = sorted(path for path in leaves - known if not path.startswith(free))
    missing = sorted(path for path in known - leaves
                     if not any(leaf.startswith(f"{path}.") for leaf in leaves))
    if unknown:
        raise Failure(f"values.schema.json does not know {', '.join(unknown)}: add it")
    if missing:
        raise Failure(f"values.yaml has no {', '.join(missing)}, which values.schema.json knows")


def table(found):
    rows = ["| value | default | what it does |", "|---|---|---|"]
    for path, default, comment in found:
        shown = "" if default is None else f"`{default}`"
        rows.append("| " + " | ".join(cell.replace("|", "\\|")
                                      for cell in (f"`{path}`", shown, comment)) + " |")
    return "\n".join(rows)


def between(readme, text):
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Failure(f"README.md needs the lines {BEGIN} and {END}: the table goes between them")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def read(name):
    with open(os.path.join(CHART, name), encoding="utf-8") as file:
        return file.read()


def main():
    found = values(read("values.yaml"))
    compare(found, json.loads(read("values.schema.json")))
    readme = between(read("README.md"), table(found))
    with open(os.path.join(CHART, "README.md"), "w", encoding="utf-8") as file:
        file.write(readme)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"chart-readme: {failure}")
