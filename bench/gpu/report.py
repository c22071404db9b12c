"""What check.py tells, and how it runs programs: with a limit to their time, line by line."""

import collections
import json
import math
import os
import queue
import signal
import subprocess
import threading
import time

LOG_BYTES_MAX = 8 << 20
# What of a program's last words is told as the reason why it failed.
COMPLAINTS = 4
COMPLAINT_CHARACTERS = 400


class Failure(Exception):
    """Says in a sentence why a check did not pass."""


class Report:
    """Figures and the state of the checks, on standard output and in OUT/figures.json."""

    def __init__(self, out, device):
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.started = out, time.monotonic()
        self.content = {"device": device, "facts": {}, "checks": {}, "figures": {}}
        self.log = open(out / "check.log", "w", encoding="utf-8", errors="replace")
        self.write()

    def say(self, text):
        print(f"[{time.monotonic() - self.started:4.0f} s] {text}", flush=True)

    def figure(self, name, value, unit):
        value = float(f"{value:.6g}")
        print(f"figure {name} {value:g} {unit}", flush=True)
        # JSON has no NaN.
        value = value if math.isfinite(value) else None
        self.content["figures"][name] = {"value": value, "unit": unit}
        self.write()

    def fact(self, name, value):
        self.content["facts"][name] = value
        self.write()

    def check(self, name, state, seconds, reason=""):
        self.content["checks"][name] = {"state": state, "seconds": round(seconds, 1)}
        if reason:
            self.content["checks"][name]["reason"] = reason
        self.write()

    def write(self):
        new = self.out / "figures.json.new"
        new.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        os.replace(new, self.out / "figures.json")

    def log_line(self, line):
        if self.log.tell() < LOG_BYTES_MAX:
            self.log.write(line.rstrip("\n") + "\n")
            self.log.flush()


class Process:
    """A program in a process group of its own, read line by line until it ends or its time does."""

    def __init__(self, report, command, env, until):
        self.report, self.until = report, until
        self.name = os.path.basename(str(command[0]))
        report.log_line(f"$ {' '.join(map(str, command))}")
        self.child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
        self.lines, self.complaints = queue.Queue(), collections.deque(maxlen=COMPLAINTS)
        for pipe in (self.child.stdout, self.child.stderr):
            threading.Thread(target=self.read, args=(pipe,), daemon=True).start()

    def read(self, pipe):
        for line in pipe:
            self.lines.put((pipe is self.child.stdout, line.rstrip("\n")))
        self.lines.put((pipe is self.child.stdout, None))

    def output(self, ask_at=None):
        """Lines of standard output. At `ask_at` the program is asked to end, as by Ctrl-C."""
        open_pipes = 2
        try:
            while open_pipes:
                now = time.monotonic()
                if ask_at and now >= ask_at:
                    self.child.send_signal(signal.SIGINT)
                    ask_at = None
                if now >= self.until:
                    raise Failure(f"{self.name} did not end in its time")
                wait = min(self.until, ask_at or self.until) - now
                try:
                    is_output, line = self.lines.get(timeout=max(wait, 0.01))
                except queue.Empty:
                    continue
                if line is None:
                    open_pipes -= 1
                    continue
                self.report.log_line(line)
                if is_output:
                    yield line
                elif line.strip():
                    self.complaints.append(line.strip()[:COMPLAINT_CHARACTERS])
            code = self.child.wait(timeout=5)
        finally:
            self.kill()
        if code:
            raise Failure(f"{self.name} ended with {code}: {' | '.join(self.complaints)}")

    def kill(self):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
