#!/usr/bin/env python3
"""Puts the CPU libtorch that HeteroLoCo links against into the user's cache folder.

The folder is made out of three pinned wheels of the Python package index: torch (headers and
libraries), and two small CUDA libraries that libtorch_cpu itself needs. The wheel's own
libtorch.so needs CUDA's 2.5 GB, so a stub that needs only libtorch_cpu takes its place.
See docs/gpu-hosts.md for how the same binaries then use a GPU host's full libtorch.

Set by the user: LIBTORCH (then it is only checked), HETEROLOCO_CACHE (where the folder goes),
HETEROLOCO_WHEELS (a folder that may already hold the wheels, for machines without a network).
The finished folder's path is the only thing printed on standard output.
"""

import os
import sys

VERSION = "2.11.0"
WHEELS = (
    # project, version, file name, sha256, bytes
    ("torch", VERSION, "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
     "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a", 530_604_548),
    ("nvidia-cuda-runtime", "13.0.96",
     "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
     "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", 2_243_632),
    ("nvidia-cuda-cupti", "13.0.85",
     "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
     "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", 10_715_597),
)
TORCH_LIBRARIES = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libshm.so",
                   "libtorch_global_deps.so")
CUDA_LIBRARIES = ("nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13")
EXTRACTED_BYTES = 560_000_000
ATTEMPTS = 6
STALL_SECONDS = 60
PIP_WITH_REPORT = "pip>=23.2,<27"


class Failure(Exception):
    """Carries the one sentence that tells the user what went wrong and what to do."""


def say(text):
    print(f"setup-libtorch: {text}", file=sys.stderr, flush=True)


def cache_folder():
    own = os.environ.get("HETEROLOCO_CACHE")
    if own:
        return os.path.abspath(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "heteroloco")


def check_given(folder):
    """LIBTORCH was set by the user: nothing is changed there, the version is checked."""
    header = os.path.join(folder, "include", "torch", "headeronly", "version.h")
    if not os.path.isdir(os.path.join(folder, "lib")) or not os.path.isfile(header):
        raise Failure(f"LIBTORCH={folder} is not a libtorch {VERSION} folder (no lib/ or no "
                      f"{os.path.relpath(header, folder)}); correct it, or unset it to let "
                      "`make setup` fetch one.")
    found = header_version(header)
    if found != VERSION:
        raise Failure(f"LIBTORCH={folder} is version {found}, but {VERSION} is needed; correct "
                      "it, or unset it to let `make setup` fetch one.")


def header_version(header):
    numbers = {}
    with open(header, encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if len(words) == 3 and words[1].startswith("TORCH_VERSION_"):
                numbers[words[1]] = words[2]
    parts = (numbers.get(f"TORCH_VERSION_{p}", "?") for p in ("MAJOR", "MINOR", "PATCH"))
    return ".".join(parts)


def check_machine(cache):
    import platform
    import shutil
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Failure(f"prebuilt libtorch is for x86_64 Linux, and this is {platform.system()} "
                      f"{platform.machine()}: install libtorch {VERSION} yourself and set "
                      "LIBTORCH.")
    if not compiler():
        raise Failure("no C compiler found: install cc (on Debian: build-essential) or set CC.")
    need = sum(wheel[4] for wheel in WHEELS) + EXTRACTED_BYTES
    free = shutil.disk_usage(cache).free
    if free < need:
        raise Failure(f"{cache} has {free / 1e9:.1f} GB free, but {need / 1e9:.1f} GB are needed: "
                      "make room or set HETEROLOCO_CACHE to another disk.")


def compiler():
    import shutil
    names = (os.environ.get("CC"), "cc", "gcc", "clang")
    return next((name for name in names if name and shutil.which(name)), None)


def run_pip(arguments, scratch):
    """Runs pip with its standard output captured; returns the completed process."""
    import subprocess
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    if os.path.isdir(os.path.join(scratch, "pip-new")):
        environment["PYTHONPATH"] = os.path.join(scratch, "pip-new")
    own = os.path.join(scratch, "venv", "bin", "python")
    python = own if os.path.exists(own) else sys.executable
    return subprocess.run([python, "-m", "pip", *arguments], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def pip_able_to_report(scratch):
    """Makes sure that `pip install --report` works; an older pip fetches a newer one."""
    import subprocess
    probe = run_pip(["--version"], scratch)
    if probe.returncode != 0:
        # Many a Python without pip can still put one into a virtual environment.
        subprocess.run([sys.executable, "-m", "venv", os.path.join(scratch, "venv")],
                       capture_output=True, check=False)
        probe = run_pip(["--version"], scratch)
    if probe.returncode != 0:
        raise Failure(f"{sys.executable} has no pip, which is needed to find the wheels: install "
                      "it (on Debian: python3-pip), or put the wheels into a folder and set "
                      "HETEROLOCO_WHEELS.")
    words = probe.stdout.split()
    major = words[1].split(".")[0] if len(words) > 1 else "0"
    if major.isdigit() and int(major) >= 23:
        return
    say(f"pip {words[1] if len(words) > 1 else '?'} is too old to report addresses; fetching a "
        "newer one for this script alone")
    target = os.path.join(scratch, "pip-new")
    got = run_pip(["install", "--quiet", "--target", target, PIP_WITH_REPORT], scratch)
    if got.returncode != 0:
        raise Failure("pip is older than 23 and could not fetch a newer one (is there a network?): "
                      + last_line(got.stderr))


def wheel_address(wheel, scratch):
    """Asks pip, with whatever index and proxy the user has configured, where the wheel lies."""
    import json
    project, version, name = wheel[:3]
    arguments = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report",
                 "-", "--target", os.path.join(scratch, "nothing"), "--python-version", "3.11",
                 "--only-binary", ":all:"]
    for tag in ("manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"):
        arguments += ["--platform", f"{tag}_x86_64"]
    answer = run_pip([*arguments, f"{project}=={version}"], scratch)
    if answer.returncode != 0:
        raise Failure(f"pip could not find {project} {version} (is there a network?): "
                      + last_line(answer.stderr))
    report = json.loads(answer.stdout[answer.stdout.index("{"):])
    address = report["install"][0]["download_info"]["url"]
    if address.rsplit("/", 1)[-1] != name:
        raise Failure(f"the package index offers {address.rsplit('/', 1)[-1]} where {name} was "
                      "expected; an unusual index may be configured for pip.")
    return address


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def sha256_of(path):
    import hashlib
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fetch_range(address, part, size):
    """Downloads what is still missing of `part`; restarts it where the server knows no ranges."""
    import ssl
    import urllib.request
    have = os.path.getsize(part) if os.path.exists(part) else 0
    if have >= size:
        return
    certificates = os.environ.get("PIP_CERT") or os.environ.get("REQUESTS_CA_BUNDLE")
    tls = ssl.create_default_context(cafile=certificates)
    request = urllib.request.Request(address, headers={"User-Agent": "heteroloco-setup"})
    if have:
        say(f"resuming at {have / 1e6:.0f} MB")
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=STALL_SECONDS, context=tls) as answer:
        resumed = answer.status == 206
        with open(part, "ab" if resumed else "wb") as file:
            copy_with_progress(answer, file, have if resumed else 0, size)


def copy_with_progress(source, file, done, size):
    import time
    shown = time.monotonic()
    for block in iter(lambda: source.read(1 << 18), b""):
        file.write(block)
        done += len(block)
        if done > size:
            raise Failure("the download is longer than the pinned file: a proxy or an index "
                          "answers with something else.")
        if time.monotonic() - shown > 2:
            shown = time.monotonic()
            say(f"  {done / 1e6:6.0f} of {size / 1e6:.0f} MB ({100 * done // size}%)")


def download(wheel, address, part):
    """Bounded retries; each goes on where the last one stopped."""
    import time
    size = wheel[4]
    for attempt in range(1, ATTEMPTS + 1):
        trouble = "the connection ended early"
        try:
            fetch_range(address, part, size)
        except OSError as error:
            if error.errno == 28:  # ENOSPC
                raise Failure(f"no room left for {part}: make some and run this again.") from None
            trouble = getattr(error, "reason", None) or error
        if os.path.exists(part) and os.path.getsize(part) == size:
            return
        if attempt < ATTEMPTS:
            say(f"download stopped ({trouble}); attempt {attempt + 1} of {ATTEMPTS}")
            time.sleep(min(2 ** attempt, 20))
    raise Failure(f"could not download {wheel[2]} in {ATTEMPTS} attempts ({trouble}): check the "
                  "network and run this again; it goes on where it stopped.")


def obtain(wheel, downloads):
    """The path of the wheel with its hash checked: given by the user, left over, or downloaded."""
    name, digest = wheel[2], wheel[3]
    for folder in (os.environ.get("HETEROLOCO_WHEELS"), downloads):
        path = folder and os.path.join(folder, name)
        if path and os.path.isfile(path):
            check_hash(path, digest)
            return path
    address = wheel_address(wheel, downloads)
    part = os.path.join(downloads, name + ".part")
    say(f"downloading {name} ({wheel[4] / 1e6:.0f} MB)")
    download(wheel, address, part)
    check_hash(part, digest, discard=True)
    os.replace(part, part[:-len(".part")])
    return part[:-len(".part")]


def check_hash(path, expected, discard=False):
    found = sha256_of(path)
    if found == expected:
        return
    if discard:
        os.unlink(path)
    raise Failure(f"{path} has sha256 {found}, not the pinned {expected}: "
                  + ("it was removed, run this again." if discard else "remove it."))


def extract(wheels, folder):
    import zipfile
    library = os.path.join(folder, "lib")
    os.makedirs(library)
    with zipfile.ZipFile(wheels[0]) as archive:
        headers = [n for n in archive.namelist()
                   if n.startswith("torch/include/") and not n.endswith("/")]
        say(f"unpacking {len(headers)} headers and {len(TORCH_LIBRARIES)} libraries")
        for name in headers:
            write_member(archive, name, os.path.join(folder, name[len("torch/"):]))
        for name in TORCH_LIBRARIES:
            write_member(archive, f"torch/lib/{name}", os.path.join(library, name))
        write_member(archive, f"torch-{VERSION}.dist-info/licenses/LICENSE",
                     os.path.join(folder, "LICENSE"))
    for path, name in zip(wheels[1:], CUDA_LIBRARIES):
        with zipfile.ZipFile(path) as archive:
            write_member(archive, name, os.path.join(library, os.path.basename(name)))
    # `-lgomp` is resolved here even where the compiler brings no OpenMP of its own.
    os.symlink("libgomp.so.1", os.path.join(library, "libgomp.so"))


def write_member(archive, name, target):
    import shutil
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(name) as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def link_stub(folder):
    """A libtorch.so without code: it only pulls in libtorch_cpu, and no CUDA."""
    import subprocess
    library = os.path.join(folder, "lib")
    command = [compiler(), "-shared", "-x", "c", "-o", os.path.join(library, "libtorch.so"),
               "/dev/null", "-x", "none", "-Wl,-soname,libtorch.so", "-L", library,
               "-Wl,--no-as-needed", "-ltorch_cpu", "-Wl,--as-needed", "-Wl,-rpath,$ORIGIN",
               "-Wl,--allow-shlib-undefined"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure("the C compiler could not link the stub libtorch.so: "
                      + last_line(done.stderr))


def build(cache, target):
    import glob
    import shutil
    import tempfile
    check_machine(cache)
    downloads = os.path.join(cache, "downloads")
    os.makedirs(downloads, exist_ok=True)
    for left_over in glob.glob(target + ".tmp-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    if os.path.isdir(target):
        say(f"{target} is incomplete and is made again")
        shutil.rmtree(target)
    say(f"libtorch {VERSION} for CPU goes to {target}")
    if not all(os.path.isfile(os.path.join(f, w[2])) for w in WHEELS
               for f in [os.environ.get("HETEROLOCO_WHEELS") or downloads]):
        pip_able_to_report(downloads)
    wheels = [obtain(wheel, downloads) for wheel in WHEELS]
    folder = tempfile.mkdtemp(prefix=os.path.basename(target) + ".tmp-", dir=cache)
    try:
        os.chmod(folder, 0o755)
        extract(wheels, folder)
        link_stub(folder)
        with open(os.path.join(folder, "build-version"), "w", encoding="utf-8") as file:
            file.write(f"{VERSION}\n")
        with open(os.path.join(folder, ".complete"), "w", encoding="utf-8"):
            pass
        os.sync()
        os.rename(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(downloads)
    say("done")


def ensure(cache, target):
    import fcntl
    os.makedirs(cache, exist_ok=True)
    # The kernel drops the lock with its holder, so a killed run leaves nothing behind.
    with open(os.path.join(cache, "libtorch.lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another run is at work; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(target, ".complete")):
            build(cache, target)


def main():
    given = os.environ.get("LIBTORCH")
    cache = cache_folder()
    target = os.path.join(cache, f"libtorch-{VERSION}-cpu")
    if given and os.path.abspath(given) != target:
        check_given(given)
        print(given)
        return
    if not os.path.exists(os.path.join(target, ".complete")):
        ensure(cache, target)
    print(target)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        say(f"error: {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted; run it again and the download goes on where it stopped")
        sys.exit(130)
    except OSError as error:
        say(f"error: {error}")
        sys.exit(1)
