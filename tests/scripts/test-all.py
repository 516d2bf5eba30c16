#!/usr/bin/env python3
"""Runs every step of `make test` in turn, keeps going after a failure, and closes with one line: `N passed, M failed`.

A step is a make target of its own, so that each can be repeated alone. The counts are those that the test runners print
(cargo test, vitest, node's runner, and our own scripts' closing lines); a step without tests (formatting, lints, a build)
counts as one check. A step that exits with an error though its tests passed, or that promised tests and ran none, counts as one failure.
Steps have a time limit, so that a hanging server ends in a message and not in silence.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# Name of the make target, whether it runs tests, time limit in minutes.
STEPS = [
    ("build-deps", False, 10),
    ("peers", False, 15),
    ("sdks", False, 15),
    ("fmt", False, 2),
    ("deploy-check", False, 5),
    ("nginx-check", False, 2),
    ("clippy", False, 30),
    ("deny", False, 5),
    ("test-rust", True, 45),
    ("release", False, 45),
    ("test-ui", True, 15),
    ("test-demo", True, 10),
    ("conformance", True, 10),
    ("test-e2e", True, 30),
    ("test-overload", True, 10),
]

# Closing lines of the runners: what passed and what failed, each in any order.
COUNTS = [
    re.compile(r"^test result: \w+\. (?P<passed>\d+) passed; (?P<failed>\d+) failed;"),
    re.compile(r"^\s*Tests\s+(?:(?P<failed>\d+) failed)?[ |]*(?:(?P<passed>\d+) passed)?.*\(\d+\)\s*$"),
    re.compile(r"^(?:\S+: )?(?P<passed>\d+) passed, (?P<failed>\d+) failed(?:, \d+ skipped)?$"),
    re.compile(r"^(?:#|ℹ) pass (?P<passed>\d+)$"),
    re.compile(r"^(?:#|ℹ) fail (?P<failed>\d+)$"),
]


def counts(line):
    """Passed and failed tests that a runner's closing line tells, else zeros."""
    for pattern in COUNTS:
        found = pattern.match(line)
        if found:
            groups = found.groupdict()
            return int(groups.get("passed") or 0), int(groups.get("failed") or 0)
    return 0, 0


def run_step(target, minutes):
    """Runs one make target, passing its output on. Returns exit code, passed, failed."""
    # A session of its own, so that a step past its time is ended with everything it started.
    child = subprocess.Popen(
        ["make", target], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )

    def stop():
        print(f"{target}: still running after {minutes} minutes, ended", flush=True)
        os.killpg(child.pid, signal.SIGKILL)

    limit = threading.Timer(minutes * 60, stop)
    limit.daemon = True
    limit.start()
    passed = failed = 0
    for raw in child.stdout:
        text = raw.decode("utf-8", "replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        more_passed, more_failed = counts(ANSI.sub("", text.rstrip("\r\n")))
        passed, failed = passed + more_passed, failed + more_failed
    code = child.wait()
    limit.cancel()
    return code, passed, failed


def main():
    steps = STEPS
    if not IN_CI and not os.environ.get("PHAROS_CONFORMANCE"):
        print("no upstream promqltest scripts beside the checkout (PHAROS_CONFORMANCE): that step is left out", flush=True)
        steps = [step for step in STEPS if step[0] != "conformance"]
    began, rows, total_passed, total_failed = time.monotonic(), [], 0, 0
    for target, has_tests, minutes in steps:
        print(f"\n=== {target}", flush=True)
        at = time.monotonic()
        code, passed, failed = run_step(target, minutes)
        note = ""
        if code == 0 and has_tests and passed == 0:
            failed, note = failed + 1, "ran no test"
        elif code != 0 and failed == 0:
            failed, note = 1, f"exit code {code}"
        elif code == 0 and not has_tests:
            passed = 1
        rows.append((target, time.monotonic() - at, passed, failed, note))
        total_passed, total_failed = total_passed + passed, total_failed + failed

    print(f"\n{'step':<14}{'seconds':>9}{'passed':>9}{'failed':>9}")
    for target, seconds, passed, failed, note in rows:
        print(f"{target:<14}{seconds:>9.0f}{passed:>9}{failed:>9}  {note}".rstrip())
    print(f"{'all':<14}{time.monotonic() - began:>9.0f}")
    print(f"\n{total_passed} passed, {total_failed} failed", flush=True)
    sys.exit(1 if total_failed else 0)


if __name__ == "__main__":
    main()
