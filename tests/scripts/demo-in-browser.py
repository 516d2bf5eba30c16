#!/usr/bin/env python3
"""Does what a newcomer does: starts `pharos demo`, opens the address that it prints, logs in with the token that it prints.

Checks that there are metrics and traces within ten seconds, walks through the user interface in a real Chromium
(ui/e2e/run.mjs), and that the server ends well when it is told to. Everything is read off what the demo says on its standard
error, as a person would. Closes with `demo: N passed, M failed`. Needs PHAROS_BIN, node, and `npm ci` done in ui/.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 20
DATA_SECONDS_MAX = 10
STOP_SECONDS_MAX = 30
BROWSER_SECONDS_MAX = 300
OTHER_DOORS = ("otlp-grpc", "otlp-http", "jaeger", "jaeger-grpc")


def wait_for(what, seconds, found):
    """The first true answer of `found()`; an exception after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds} s")


class Demo:
    """A running `pharos demo` in a folder of its own."""

    def __init__(self, folder):
        self.log_path = folder / "demo.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        off = [part for door in OTHER_DOORS for part in (f"--{door}", "off")]
        command = [os.environ["PHAROS_BIN"], "demo", "--data-dir", str(folder / "data"), "--listen", address, *off]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.url = self.token = None

    def said(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"pharos demo ended with {self.process.returncode}:\n{self.log_path.read_text()}")
        return self.log_path.read_text(errors="replace")

    def read_invitation(self):
        found = wait_for("the invitation", START_SECONDS_MAX, lambda: re.search(r"Look at it: (http://\S+)\s+Log in with this token:\s+(\S+)", self.said()))
        self.url, self.token = found[1], found[2]

    def ask(self, path, **parameters):
        request = urllib.request.Request(self.url + path + "?" + urllib.parse.urlencode(parameters))
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)["data"]

    def shows_metrics(self):
        """Some counter of the shop has grown."""
        wait_for("a counter that grows", DATA_SECONDS_MAX, lambda: self.ask("api/v1/query", query='count(rate({__name__=~".+_total"}[1m]) > 0)')["result"])

    def shows_traces(self):
        def newest():
            services = self.ask("api/services")
            return services and self.ask("api/traces", service=services[0], limit=1, lookback="1h")

        wait_for("a trace", DATA_SECONDS_MAX, newest)

    def stops(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS_MAX)
        if code != 0:
            raise RuntimeError(f"exit code {code} after SIGTERM")


def browse(demo):
    """Runs the browser's walk; its passed and failed scenarios."""
    environment = {**os.environ, "PHAROS_URL": demo.url, "PHAROS_TOKEN": demo.token}
    done = subprocess.run(["node", "e2e/run.mjs"], cwd=ROOT / "ui", env=environment, stdout=subprocess.PIPE, text=True, timeout=BROWSER_SECONDS_MAX)
    closing = re.search(r"^browser: (\d+) passed, (\d+) failed\n", done.stdout, re.M)
    # Its scenarios count with ours, so its closing line is left out: whoever adds up the lines would count them twice.
    print(done.stdout.replace(closing[0], "") if closing else done.stdout, end="")
    passed, failed = (int(count) for count in closing.groups()) if closing else (0, 0)
    return passed, failed + (1 if failed == 0 and (done.returncode or not passed) else 0)


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="pharos-demo-") as folder:
        demo = Demo(pathlib.Path(folder))
        try:
            for title, step in (
                ("the demo says where to look and with which token", demo.read_invitation),
                ("metrics move within 10 s", demo.shows_metrics),
                ("traces are found within 10 s", demo.shows_traces),
                ("browser", lambda: browse(demo)),
                ("SIGTERM ends it well", demo.stops),
            ):
                at = time.monotonic()
                try:
                    more_passed, more_failed = step() or (1, 0)
                except Exception as error:  # every way to fail is one failed step, told with its reason
                    print(f"FAILED {title}: {error}")
                    failed += 1
                    if demo.url is None:
                        break
                    continue
                passed, failed = passed + more_passed, failed + more_failed
                print(f"{'ok    ' if not more_failed else 'FAILED'} {title} ({time.monotonic() - at:.1f} s)", flush=True)
        finally:
            if demo.process.poll() is None:
                demo.process.kill()
                demo.process.wait()
        if failed:
            print(f"--- what the demo said\n{demo.log_path.read_text(errors='replace')[-6000:]}")
    print(f"demo: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
