"""Tests of setup-libtorch.py against a local server: resume, refusal, and doing nothing twice."""

import hashlib
import http.server
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "setup-libtorch.py")
SPEC = importlib.util.spec_from_file_location("setup_libtorch", SCRIPT)
setup = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(setup)

BODY = bytes(range(256)) * 4000
WHEEL = ("thing", "1.0", "thing-1.0.whl", hashlib.sha256(BODY).hexdigest(), len(BODY))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves BODY, at most `cut` bytes of it per answer."""

    cut = len(BODY)
    ranges = True
    asked = []

    def do_GET(self):
        asked = self.headers.get("Range")
        Handler.asked.append(asked)
        start = int(asked[len("bytes="):-1]) if asked and Handler.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        self.wfile.write(BODY[start:start + Handler.cut])

    def log_message(self, *_):
        pass


class Download(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.part = os.path.join(folder.name, "thing.part")
        self.address = f"http://127.0.0.1:{self.server.server_port}/thing-1.0.whl"
        Handler.cut, Handler.ranges, Handler.asked = len(BODY), True, []
        for patch in (mock.patch.object(setup, "say"), mock.patch("time.sleep"),
                      mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1"})):
            patch.start()
            self.addCleanup(patch.stop)

    def read(self):
        with open(self.part, "rb") as file:
            return file.read()

    def test_an_interrupted_download_goes_on_where_it_stopped(self):
        Handler.cut = 400_000
        setup.download(WHEEL, self.address, self.part)
        self.assertEqual(self.read(), BODY)
        self.assertEqual(Handler.asked, [None, "bytes=400000-", "bytes=800000-"])

    def test_a_server_without_ranges_sends_everything_again(self):
        with open(self.part, "wb") as file:
            file.write(BODY[:1000])
        Handler.ranges = False
        setup.download(WHEEL, self.address, self.part)
        self.assertEqual(self.read(), BODY)

    def test_attempts_are_bounded_and_what_was_loaded_is_kept(self):
        Handler.cut = 10
        with self.assertRaisesRegex(setup.Failure, "could not download thing-1.0.whl"):
            setup.download(WHEEL, self.address, self.part)
        self.assertEqual(len(Handler.asked), setup.ATTEMPTS)
        self.assertEqual(self.read(), BODY[:10 * setup.ATTEMPTS])

    def test_an_answer_that_is_too_long_is_refused(self):
        with self.assertRaisesRegex(setup.Failure, "longer than the pinned file"):
            setup.download((*WHEEL[:4], 100), self.address, self.part)

    def test_a_wrong_hash_is_refused_and_the_download_removed(self):
        wheel = (*WHEEL[:3], "0" * 64, WHEEL[4])
        with mock.patch.object(setup, "wheel_address", return_value=self.address):
            with self.assertRaisesRegex(setup.Failure, "not the pinned 0000"):
                setup.obtain(wheel, self.folder)
        self.assertEqual(os.listdir(self.folder), [])


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_script(self, **environment):
        clean = {k: v for k, v in os.environ.items() if k not in ("LIBTORCH", "HETEROLOCO_CACHE")}
        return subprocess.run([sys.executable, SCRIPT], env=dict(clean, **environment), text=True,
                              capture_output=True, check=False, timeout=60)

    def given_libtorch(self, minor):
        header = os.path.join(self.folder, "include", "torch", "headeronly", "version.h")
        os.makedirs(os.path.dirname(header))
        os.makedirs(os.path.join(self.folder, "lib"))
        with open(header, "w", encoding="utf-8") as file:
            for name, value in (("MAJOR", 2), ("MINOR", minor), ("PATCH", 0)):
                file.write(f"#define TORCH_VERSION_{name} {value}\n")

    def test_a_finished_folder_is_left_alone(self):
        target = os.path.join(self.folder, f"libtorch-{setup.VERSION}-cpu")
        os.makedirs(target)
        open(os.path.join(target, ".complete"), "w", encoding="utf-8").close()
        done = self.run_script(HETEROLOCO_CACHE=self.folder)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, target + "\n", ""))
        self.assertEqual(os.listdir(target), [".complete"])

    def test_the_users_own_libtorch_is_taken_as_it_is(self):
        self.given_libtorch(11)
        done = self.run_script(LIBTORCH=self.folder, HETEROLOCO_CACHE="/nowhere")
        self.assertEqual((done.returncode, done.stdout), (0, self.folder + "\n"))

    def test_the_users_libtorch_of_another_version_is_refused(self):
        self.given_libtorch(7)
        done = self.run_script(LIBTORCH=self.folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is version 2.7.0, but 2.11.0 is needed", done.stderr)

    def test_a_folder_that_is_no_libtorch_is_refused(self):
        done = self.run_script(LIBTORCH=self.folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is not a libtorch 2.11.0 folder", done.stderr)


if __name__ == "__main__":
    unittest.main()
