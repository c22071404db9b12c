#!/usr/bin/env python3
"""What HeteroLoCo reaches on this machine's first GPU, in eight minutes at most.

`make gpu-pack` puts this script into a folder with all that it needs but Python and PyTorch 2.11.
The checks go in the order of their worth; each has a limit to its time, and one that fails does not
keep the others from being made. Figures are printed as they are found, as `figure NAME VALUE UNIT`,
and OUT/figures.json is whole after each of them: a check that is cut off leaves what it had.
The exit code is 0 when all checks passed.
"""

import argparse
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from report import Failure, Process, Report

FOLDER = pathlib.Path(__file__).resolve().parent
VERSION = "2.11"
SECONDS = 470
# An `up` is asked to end so many seconds before it would be killed.
ASKED_BEFORE = 20
# Room that runs and checkpoints need at most.
SCRATCH_BYTES = 24 << 30
GIB = 1 << 30
# Tests print theirs behind their name.
FIGURE = re.compile(r"(?:^|\s)figure (\S+) (-?[\d.e+-]+|NaN|inf) (\S+)$")

TORCH = """
import json, os, torch
cuda = torch.cuda.is_available()
facts = {"torch": torch.__version__, "torchLibraries": os.path.dirname(torch.__file__) + "/lib"}
if cuda:
    card = torch.cuda.get_device_properties(0)
    facts |= {"card": card.name, "cardBytes": card.total_memory, "cards": torch.cuda.device_count(),
              "cuda": torch.version.cuda, "freeBytes": torch.cuda.mem_get_info(0)[0],
              "capability": [card.major, card.minor]}
print(json.dumps(facts))
"""


class Bench:
    """The machine, and what the checks share."""

    def __init__(self, arguments, report, folders):
        self.report, (self.scratch, self.executables) = report, folders
        self.programs = unpacked(arguments.programs, self.executables)
        self.data, self.on_card = arguments.data, arguments.device == "cuda"
        self.until = self.limit = time.monotonic() + arguments.seconds
        self.pace = arguments.seconds / SECONDS
        self.facts, self.models = {}, {}
        self.env = dict(
            os.environ,
            OMP_WAIT_POLICY="PASSIVE",
            GOMP_SPINCOUNT="0",
            CUDA_DEVICE_ORDER="PCI_BUS_ID",
            RUST_BACKTRACE="0",
            TORCHINDUCTOR_CACHE_DIR=str(self.executables / "inductor"),
            TRITON_CACHE_DIR=str(self.executables / "triton"),
        )
        self.own_env = dict(self.env, TMPDIR=str(self.scratch))

    def run(self, command, own=True, ask=False):
        """Lines of a program's output; its figures are told on the way."""
        process = Process(self.report, command, self.own_env if own else self.env, self.limit)
        for line in process.output(self.limit - ASKED_BEFORE if ask else None):
            found = FIGURE.search(line)
            if found:
                self.report.figure(found[1], float(found[2]), found[3])
            yield line

    def program(self, name):
        path = self.programs / name
        if not path.is_file():
            raise Failure(f"there is no {name} in {self.programs}")
        return path

    def json_lines(self, command, own=True):
        """The objects that a program prints, in one; and why it failed, if it did."""
        found = {}
        try:
            for line in self.run(command, own):
                if line.startswith("{"):
                    found |= json.loads(line)
        except Failure as failure:
            return found, str(failure)
        return found, None

    @property
    def product(self):
        """As the catalogue of cards spells it."""
        return "-".join(self.facts.get("card", "NVIDIA-H100-80GB-HBM3").split())


def unpacked(programs, folder):
    """The folder of the programs, which the pack has compressed."""
    packed = list(programs.glob("*.gz"))
    if not packed:
        return programs
    for path in packed:
        with gzip.open(path) as source, open(folder / path.stem, "wb") as target:
            shutil.copyfileobj(source, target)
        (folder / path.stem).chmod(0o755)
    return folder


def machine(bench):
    """Is there a PyTorch, does it see a card, and do the programs find its libraries?"""
    facts, failed = bench.json_lines([sys.executable, "-c", TORCH], own=False)
    bench.facts = facts
    for name, value in facts.items():
        bench.report.fact(name, value)
    libraries = facts.get("torchLibraries")
    if libraries:
        # CUDA's own libraries are in packages beside torch, which finds them by itself; named here
        # for those that libraries open later by name.
        packages = pathlib.Path(libraries).parent.parent / "nvidia"
        beside = sorted(str(path) for path in packages.glob("*/lib"))
        before = [os.environ[name] for name in ("LD_LIBRARY_PATH",) if os.environ.get(name)]
        bench.own_env["LD_LIBRARY_PATH"] = ":".join([libraries, *beside, *before])
    shown = dict(bench.own_env, LD_TRACE_LOADED_OBJECTS="1")
    process = Process(bench.report, [bench.program("heteroloco-worker")], shown, bench.limit)
    loaded = list(process.output())
    missing = [line.split()[0] for line in loaded if "not found" in line]
    if missing:
        raise Failure(f"heteroloco-worker does not find {', '.join(missing)}")
    list(bench.run([bench.program("heteroloco"), "--version"]))
    if not bench.on_card:
        return
    if failed:
        raise Failure(f"PyTorch cannot be used: {failed}")
    if "card" not in facts:
        raise Failure("PyTorch sees no CUDA device")
    if not any("libtorch_cuda.so" in line for line in loaded):
        raise Failure("heteroloco-worker does not load libtorch_cuda")
    if not facts["torch"].startswith(VERSION):
        raise Failure(f"PyTorch is {facts['torch']}, the programs are made for {VERSION}")
    bench.report.figure("machine.card_gib", facts["cardBytes"] / GIB, "GiB")


def numerics(bench):
    """The worker's tests of a card: f32 and bf16 against the CPU, and a model in parts."""
    wanted = ["cpu.theta_of_unread_steps"]
    if bench.on_card:
        wanted += ["cuda_f32.gradient", "cuda_bf16.gradient", "cuda_f32.sharded_gradient"]
    failures = []
    for program, only in (("cuda-tests", []), ("sharded-tests", ["on_a_card_too"])):
        try:
            list(bench.run([bench.program(program), "--test-threads=1", "--nocapture", *only]))
        except Failure as failure:
            failures.append(str(failure))
    figures = bench.report.content["figures"]
    # A test that finds no card returns without a word.
    missing = [name for name in wanted if f"{name}_differs_by" not in figures]
    failures += [f"{name} was not compared" for name in missing]
    if failures:
        raise Failure("; ".join(failures))


MANIFEST = """
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {{name: {name}}}
spec:
  model: {{preset: {model}}}
  data: {{path: {data}, tokenizer: byte}}
  tokens: {tokens}
  batch: {{sequences: {sequences}, sequenceLength: {length}}}
  optimizer: {{learningRate: "6e-4", warmupSteps: 10}}
  sparseLoCo: {{innerSteps: {steps}}}
  rounds: {{quorum: "100%", grace: 30s, deadline: 4h}}
  evaluation: {{everyRounds: 1, sequences: 8}}
  checkpoint: {{everyRounds: 1000}}
"""
ISLAND = """---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {{name: {name}}}
spec:
  runRef: {{name: {run}}}
  devices: [{{product: {product}, count: 1, memory: {memory}, tflops: "{tflops}"}}]
"""


class Up:
    """One `heteroloco up`, and what its events say."""

    def __init__(self, bench, name, islands, **settings):
        self.bench, self.name, self.settings = bench, name, settings
        self.rounds, self.summary, self.emulated = [], None, None
        steps = islands * settings["rounds"] * settings["steps"]
        tokens = steps * settings["sequences"] * settings["length"]
        text = MANIFEST.format(name=name, data=bench.data, tokens=tokens, **settings)
        for island in ("one", "two")[:islands]:
            text += ISLAND.format(name=island, run=name, product=bench.product, **settings)
        self.manifest = bench.scratch / f"{name}.yaml"
        self.manifest.write_text(text, encoding="utf-8")

    def run(self):
        folder = self.bench.scratch / self.name
        command = [self.bench.program("heteroloco"), "up", "--json", "-f", self.manifest]
        try:
            for line in self.bench.run([*command, "--run-dir", folder], ask=True):
                self.take(json.loads(line) if line.startswith("{") else {})
        except Failure:
            # A run that was asked to end has its own exit code, and what it had is worth telling.
            if not self.summary or time.monotonic() < self.bench.limit - ASKED_BEFORE:
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not self.summary:
            raise Failure("the run has no summary")

    def take(self, event):
        if event.get("event") == "begin":
            self.emulated = event.get("emulated")
        elif event.get("event") == "round":
            self.rounds.append(event)
            if event["island"] == "one":
                took = [event[f"{what}Seconds"] for what in ("compute", "exchange", "waiting")]
                told = "computing {:.1f} s, exchange {:.1f} s, waiting {:.1f} s".format(*took)
                self.bench.report.say(f"  round {event['round']}: {told}")
        self.summary = event.get("summary", self.summary)

    def judge(self):
        figure, summary = self.bench.report.figure, self.summary
        figure(f"{self.name}.rounds", summary["rounds"], "-")
        figure(f"{self.name}.wall_s", summary["wallSeconds"], "s")
        if summary["rounds"] == 0:
            raise Failure("no round was committed")
        identical = summary["replicasIdentical"]
        first, last = summary["heldoutFirst"][1], summary["heldoutLast"][1]
        figure(f"{self.name}.replicas_identical", float(bool(identical)), "-")
        figure(f"{self.name}.heldout_loss_first", first, "nats/token")
        figure(f"{self.name}.heldout_loss_last", last, "nats/token")
        if not identical:
            raise Failure("the replicas differ")
        if not last < first:
            raise Failure(f"the held-out loss went from {first} to {last}")

    def shares(self):
        """Of the rounds but the first, which has what is made once: seconds and shares."""
        rounds = [event for event in self.rounds if event["round"] > 0] or self.rounds
        sums = {
            what: sum(event[f"{what}Seconds"] for event in rounds)
            for what in ("compute", "exchange", "waiting")
        }
        whole = sum(sums.values())
        for what, seconds in sums.items():
            name = f"{self.name}.{what}_percent"
            self.bench.report.figure(name, 100 * seconds / whole, "%")
        seconds = whole / len(rounds)
        self.bench.report.figure(f"{self.name}.round_s", seconds, "s")
        return seconds


def share_card(bench):
    """One `up` of two islands that share the card, and what codec and exchange take of a round."""
    sizes = [("llama-160m", 16, 1024, 20), ("llama-demo", 8, 256, 20)]
    if not bench.on_card:
        sizes = [("llama-demo", 2, 32, 2)]
    precision = "bf16" if bench.facts.get("capability", [9])[0] >= 8 else "f32"
    device = {"kind": "cuda", "index": 0, "precision": precision} if bench.on_card else None
    stand_in = bench.executables / "worker"
    script = FOLDER / "on_card.py"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
    stand_in.chmod(0o755)
    usual = bench.own_env
    bench.own_env = dict(
        usual,
        HETEROLOCO_WORKER=str(stand_in),
        CHECK_WORKER=str(bench.program("heteroloco-worker")),
        CHECK_DEVICE=json.dumps(device) if device else "",
    )
    try:
        for model, sequences, length, steps in sizes:
            sizes_of = {"model": model, "sequences": sequences, "length": length, "steps": steps}
            up = Up(bench, "shared", 2, memory="12Gi", tflops="200", rounds=4, **sizes_of)
            try:
                up.run()
                break
            except Failure as failure:
                bench.report.say(f"  {model}: {failure}")
                if model == sizes[-1][0] or time.monotonic() + 2 * ASKED_BEFORE > bench.limit:
                    raise
    finally:
        bench.own_env = usual
    seconds = up.shares()
    up.judge()
    parameters = up.summary["parameters"]
    bench.report.figure("shared.parameters", parameters, "-")
    codec(bench, parameters, seconds)


def codec(bench, parameters, round_seconds):
    """The codec on as many values, on this machine's CPU, against a round's seconds."""
    gib = f"{max(4 * parameters / GIB, 0.01):.3f}"
    list(bench.run([bench.program("codec"), "--gib", gib, "--repeats", "3"]))
    figures = bench.report.content["figures"].items()
    # One for each instruction set of the machine; the worker takes the fastest.
    speeds = [of["value"] for name, of in figures if name.startswith("codec.compress.mparam_s.")]
    if not speeds:
        raise Failure("the codec's speed is not known")
    seconds = parameters / (max(speeds) * 1e6)
    bench.report.figure("shared.compress_percent", 100 * seconds / round_seconds, "%")


def alone(bench):
    """`up` as a user would on this machine: the card as the driver names it."""
    sizes = {"sequences": 8, "length": 256, "steps": 10} if bench.on_card else {
        "sequences": 2, "length": 32, "steps": 2}
    up = Up(bench, "alone", 1, model="llama-demo", memory="8Gi", tflops="200", rounds=3, **sizes)
    up.run()
    up.judge()
    if bench.on_card and up.emulated:
        raise Failure(f"heteroloco did not take the card: {up.emulated}")


def memory(bench):
    """What plans say that six shapes need, against the allocator's peak."""
    command = [bench.program("memory"), "--programs", bench.programs, "--data", bench.data]
    if bench.on_card:
        command += ["--card", str(bench.facts["cardBytes"])]
    else:
        command += ["--only", "data 2, short"]
    for line in bench.run(command):
        if not line.startswith("figure "):
            bench.report.say(f"  {line}")


class Model:
    """A model's step here and in PyTorch."""

    def __init__(self, name, preset, batch, length, turns=3, fill=False):
        self.name, self.preset, self.fill = name, preset, fill
        self.batch, self.length, self.turns = batch, length, turns
        self.steps = 4

    def shape(self):
        shape = {"batch": self.batch, "length": self.length, "steps": self.steps}
        shape["turns"] = self.turns
        return [part for name, value in shape.items() for part in (f"--{name}", str(value))]

    def own(self, bench):
        command = [bench.program("card"), "--model", self.preset, *self.shape()]
        if bench.on_card:
            command += ["--card", bench.product]
        if self.fill:
            command += ["--fill", str(bench.facts["freeBytes"])]
        found, failed = bench.json_lines(command)
        if "config" not in found:
            raise Failure(failed or "the model is not known")
        bench.models[self.name] = found
        figure = bench.report.figure
        figure(f"step.{self.name}.parameters", found["parameters"], "-")
        if failed:
            raise Failure(failed)
        self.tell(bench, "heteroloco", found)
        if bench.on_card:
            planned, peak = found["plannedBytes"] - found["contextBytes"], found["peakBytes"]
            figure(f"step.{self.name}.memory_error_percent", 100 * (planned / peak - 1), "%")

    def rival(self, bench, compiled):
        found = bench.models.get(self.name)
        if not found:
            raise Failure("the model is not known")
        if "torch" not in bench.facts:
            raise Failure("there is no PyTorch to compare with")
        command = [sys.executable, FOLDER / "rival.py", "--config", json.dumps(found["config"])]
        command += [*self.shape(), "--device", "cuda" if bench.on_card else "cpu"]
        command += ["--half"] if bench.on_card else []
        command += ["--compiled"] if compiled else []
        kind = "compiled" if compiled else "eager"
        rival, failed = bench.json_lines(command, own=False)
        if failed:
            raise Failure(failed)
        self.tell(bench, kind, rival)
        if "tokensPerSecond" in found:
            ratio = found["tokensPerSecond"] / rival["tokensPerSecond"]
            bench.report.figure(f"step.{self.name}.vs_{kind}", ratio, "x")

    def tell(self, bench, who, found):
        figure, rate = bench.report.figure, found["tokensPerSecond"]
        figure(f"step.{self.name}.{who}.tokens_per_second", rate, "tokens/s")
        if found.get("peakBytes"):
            figure(f"step.{self.name}.{who}.peak_gib", found["peakBytes"] / GIB, "GiB")
        of = bench.models[self.name]
        if of["peakTflops"] and bench.on_card:
            mfu = 100 * rate * of["flopsPerToken"] / (of["peakTflops"] * 1e12)
            figure(f"step.{self.name}.{who}.mfu", mfu, "%")


def probe(bench):
    """`heteroloco probe`, and whether the driver's library names the card that PyTorch sees."""
    path = bench.report.out / "probe.json"
    list(bench.run([bench.program("heteroloco"), "probe", "--out", path]))
    record = json.loads(path.read_text(encoding="utf-8"))
    device = record["devices"][0]
    bench.report.fact("probe", device)
    reached, figure = device["reached"], bench.report.figure
    figure("probe.f32_tflops", reached["f32Tflops"], "TFLOP/s")
    if "bf16Tflops" in reached:
        figure("probe.bf16_tflops", reached["bf16Tflops"], "TFLOP/s")
    figure("probe.bandwidth_gbps", reached["bandwidthGbps"], "GB/s")
    if bench.on_card and device["product"] != bench.product:
        raise Failure(f"the driver names {device['product']}, PyTorch {bench.product}")


def checks(bench):
    """Names, what to do, and the most of SECONDS it may take: in the order of worth."""
    models = [
        Model("llama-160m", "llama-160m", 8, 2048),
        Model("llama-1b", "llama-1b", 4, 2048),
        Model("largest", "llama-8b", 1, 2048, turns=2, fill=True),
    ]
    if not bench.on_card:
        models = [Model("tiny", "llama-demo", 1, 64, turns=1)]
    found = [
        ("machine", machine, 60),
        ("numerics", numerics, 90),
        ("share_card", share_card, 120),
        ("alone", alone, 45),
        ("memory", memory, 110),
    ]
    for model in models[:2]:
        found.append((f"step.{model.name}", model.own, 45))
        found.append((f"eager.{model.name}", lambda b, m=model: m.rival(b, False), 45))
    found.append(("probe", probe, 45))
    for model in models[:2]:
        found.append((f"compiled.{model.name}", lambda b, m=model: m.rival(b, True), 75))
    for model in models[2:]:
        found.append((f"step.{model.name}", model.own, 80))
        found.append((f"eager.{model.name}", lambda b, m=model: m.rival(b, False), 60))
        found.append((f"compiled.{model.name}", lambda b, m=model: m.rival(b, True), 90))
    return found


def make(bench, name, work, seconds):
    """One check; whether it passed."""
    report, started = bench.report, time.monotonic()
    if started + 5 > bench.until:
        report.say(f"{name}: no time is left")
        report.check(name, "skipped", 0, "no time was left")
        return False
    bench.limit = min(started + seconds * bench.pace, bench.until)
    report.say(f"{name}: {' '.join((work.__doc__ or '').split()) or 'tokens a second'}")
    report.check(name, "running", 0)
    reason, state = "", "passed"
    try:
        work(bench)
    except Failure as failure:
        reason, state = str(failure), "failed"
    except Exception as error:  # One check's mistake must not cost the others.
        reason, state = f"{type(error).__name__}: {error}", "failed"
    report.check(name, state, time.monotonic() - started, reason)
    report.say(f"{name}: {state}{': ' if reason else ''}{reason}")
    return state == "passed"


def scratch_folder():
    """Memory where there is room: a disk's speed is not what is measured here."""
    shared = pathlib.Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > SCRATCH_BYTES
    return tempfile.mkdtemp(prefix="heteroloco-check-", dir=shared if roomy else None)


def executables_folder(out):
    """A folder whose files may be run, which those in memory often may not."""
    for parent in (None, FOLDER, out):
        try:
            folder = pathlib.Path(tempfile.mkdtemp(prefix="heteroloco-check-", dir=parent))
            (folder / "true").write_text("#!/bin/sh\n", encoding="utf-8")
            (folder / "true").chmod(0o755)
            subprocess.run([folder / "true"], check=True)
            return folder
        except OSError:
            continue
    sys.exit(f"failed to run a program from a temporary folder, from {FOLDER} and from {out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the figures")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda",
                        help="cpu: tiny shapes, to try the script itself")
    parser.add_argument("--seconds", type=float, default=SECONDS,
                        help="for all checks together; their own limits follow")
    parser.add_argument("--only", action="append", help="name of a check; may be repeated")
    parser.add_argument("--programs", type=pathlib.Path, default=FOLDER / "bin")
    parser.add_argument("--data", type=pathlib.Path, default=FOLDER / "data")
    arguments = parser.parse_args()
    arguments.programs, arguments.data = arguments.programs.resolve(), arguments.data.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("check.py was asked to end"))
    report = Report(arguments.out.resolve(), arguments.device)
    folders = pathlib.Path(scratch_folder()), executables_folder(report.out)
    try:
        bench = Bench(arguments, report, folders)
        passed = [
            make(bench, name, work, seconds)
            for name, work, seconds in checks(bench)
            # Every other check asks what the machine is.
            if not arguments.only or name in arguments.only or name == "machine"
        ]
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    report.say(f"{sum(passed)} of {len(passed)} checks passed")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
