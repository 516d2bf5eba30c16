#!/usr/bin/env python3
"""Kills Pharos while its log is full, starts it again, and prints how long it takes until it is ready.

usage: benches/restart.py [--series 10000] [--samples 20000000] [--runs 3]

A server on a fresh data folder takes the samples by remote write, one every 15 s of each series; its head may hold them all, so
that the log does, too. It is killed (SIGKILL), started again as often as --runs says, and asked for /-/ready every few milliseconds.
In the end every sample must be there (`loadgen verify`). The page cache is warm, as after a crash of the process alone.

Environment: PHAROS_BIN and LOADGEN_BIN, release builds. Needs Linux (/proc).
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import compare

INTERVAL_SECONDS = 15
# The log of so many samples, and the samples in memory, stay below these.
LOG_MAX = "4GiB"
HEAD_MAX = "1GiB"
HEAD_LIMIT = "8GiB"


class Pharos(compare.Pharos):
    line = None

    def command(self):
        if self.line is None:
            kept = ("--tsdb-log-size-max", LOG_MAX, "--tsdb-head-memory-max", HEAD_MAX, "--tsdb-head-memory-limit", HEAD_LIMIT)
            self.line = [*super().command(), *kept]
        return self.line

    def ready_seconds(self):
        """Starts it; seconds until it says that it is ready, and CPU seconds used by then."""
        began = time.monotonic()
        with open(self.folder.parent / "again.log", "wb") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while time.monotonic() < began + compare.START_SECONDS_MAX and self.process.poll() is None:
            try:
                compare.http(self.url + self.ready_path, timeout=2)
                return time.monotonic() - began, compare.cpu_seconds(self.process.pid)
            except OSError:
                time.sleep(0.005)
        sys.exit("not ready; its log:\n" + (self.folder.parent / "again.log").read_text()[-3000:])

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    seconds = args.samples // args.series * INTERVAL_SECONDS
    start = int(time.time()) - 900 - seconds
    shape = ["--series", str(args.series), "--span", f"{seconds}s", "--start", str(start), "--seed", "1"]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pharos-restart-"))
    server = Pharos(folder / "data")
    try:
        server.start()
        load = ["--url", server.url + "/api/v1/write", "--concurrency", "4", "--batch", "10000"]
        report = compare.loadgen("metrics", *load, *shape, token=server.token)
        for run in range(args.runs):
            server.kill()
            log = compare.tree_bytes(server.folder / "metrics" / "log")
            parts = sum(1 for _ in (server.folder / "metrics").glob("tenants/*/parts/*"))
            ready, cpu = server.ready_seconds()
            rss = compare.peak_rss_mb(server.process.pid)
            print(
                f"{report['samples_accepted'] / 1e6:.1f} M samples, {log / 1e6:.0f} MB of log, {parts} parts: "
                f"ready after {ready:.2f} s, {cpu:.2f} CPU s, peak RSS {rss:.0f} MB"
            )
        if not compare.loadgen("verify", "--url", server.url, *shape, token=server.token, check=False)["ok"]:
            sys.exit("samples are missing after the restart")
    finally:
        server.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
