#!/usr/bin/env bash
# sim-mutations.sh [NAME...]: puts each defect of sim/mutations into a copy of the tree and simulates
# seeds until one shows it. Fails where a defect is not found, or its patch does not fit any more.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=10000
batch=250
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    for patch in sim/mutations/*.patch; do names+=("$(basename "$patch" .patch)"); done
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/mutations

# Prints the first fault, and how many seeds were simulated until then.
search() {
    local first out
    for ((first = 0; first < seeds; first += batch)); do
        if ! out=$("$CARGO_TARGET_DIR/release/sim" --first "$first" --seeds "$batch"); then
            grep -m 1 '^seed ' <<<"$out" | cut -c 1-140
            return 0
        fi
    done
    return 1
}

# Puts a defect in, or with --reverse takes it out again.
change() {
    patch --silent --strip 1 --fuzz 0 --directory "$tree" "${@:2}" <"sim/mutations/$1.patch"
}

# One copy serves all, whatever happens to the tree meanwhile.
git ls-files -z | xargs -0 cp --parents -t "$tree"
found=0
for name in "${names[@]}"; do
    change "$name"
    cargo build --quiet --locked --release -p sim --manifest-path "$tree/Cargo.toml"
    if fault=$(search); then
        printf '%-28s %s\n' "$name" "$fault"
        found=$((found + 1))
    else
        printf '%-28s NOT FOUND in %s seeds\n' "$name" "$seeds"
    fi
    change "$name" --reverse
done
printf 'figure sim.mutations_found %s of %s\n' "$found" "${#names[@]}"
[ "$found" -eq ${#names[@]} ]
