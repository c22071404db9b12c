#!/usr/bin/env bash
# chart-lint.sh HELM: the chart renders with each file of charts/heteroloco/ci, refuses what it should,
# and has the workspace's version.
set -euo pipefail
cd "$(dirname "$0")/.."

helm=$1
chart=charts/heteroloco
render=("$helm" template heteroloco "$chart" --namespace heteroloco)

fail() {
    printf 'chart-lint: %s\n' "$1" >&2
    exit 1
}

# refused SENTENCE --set …: the values are refused with that sentence.
refused() {
    local sentence=$1 said
    shift
    said=$("${render[@]}" "$@" 2>&1 >/dev/null) && fail "taken, but should be refused: $*"
    [[ $said == *"$sentence"* ]] || fail "refused $* without \"$sentence\": $said"
}

for values in "$chart"/ci/*-values.yaml; do
    "$helm" lint --strict --quiet "$chart" --namespace heteroloco --values "$values"
    for kubernetes in 1.30.0 1.34.4; do
        "${render[@]}" --values "$values" --kube-version "$kubernetes" >/dev/null
    done
done
for values in examples/kubernetes/*/values.yaml; do
    "${render[@]}" --values "$values" >/dev/null
done

refused "set leaderElection: true" --set replicas=2 --set leaderElection=false
refused "needs metrics.service.enabled" --set metrics.serviceMonitor.enabled=true \
    --set metrics.service.enabled=false
refused "replica" --set replica=2
refused "priorityClass" --set priorityClass.value=5
refused "watchNamespaces" --set 'watchNamespaces={Team}'
refused "kubeVersion" --kube-version 1.29.0

python3 -m json.tool "$chart/dashboards/heteroloco.json" >/dev/null || fail "the dashboard is no JSON"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
for line in "version: $version" "appVersion: $version" "heteroloco:$version" \
    "heteroloco-worker:$version-cuda" "heteroloco-worker:$version-cpu"; do
    grep -q "$line\$" "$chart/Chart.yaml" || fail "Chart.yaml has no \"$line\""
done
printf 'chart-lint: all well\n'
