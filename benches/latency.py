#!/usr/bin/env python3
"""How long small queries and writes take while Pharos flushes and merges, beside the same when it rests.

usage: benches/latency.py [--series 10000] [--span 6h] [--seconds 12] [--json FILE]

A server on a fresh data folder, whose head may hold little so that it flushes all the time, takes a load. Then one connection asks for one
series, and another writes 100,000 samples a second, 2,000 a request: first alone, then while a third connection writes and has the server
flush and merge everything again and again, which merges without a pace and at normal priority. On a machine of few cores the difference is
mostly the wait for one: with idle cores it is smaller.

Environment: PHAROS_BIN and LOADGEN_BIN, release builds.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import compare

HEAD_MAX = "24MiB"
WRITES_PER_SECOND = 100_000
WRITE_SERIES = 2_000
# How many seconds of data a connection writes in one second at that rate: a sample every 15 s of each series.
DATA_SECONDS_PER_SECOND = WRITES_PER_SECOND // WRITE_SERIES * 15
KEPT = ("count", "p50", "p95", "p99", "max")


class Pharos(compare.Pharos):
    line = None

    def command(self):
        if self.line is None:
            self.line = [*super().command(), "--tsdb-head-memory-max", HEAD_MAX]
        return self.line


class Bench:
    def __init__(self, server, args, start):
        self.server, self.args, self.start = server, args, start
        self.write_url = server.url + "/api/v1/write"
        self.seed = 1

    def push(self, *shape):
        """A load of its own series, each time of others."""
        self.seed += 1
        way = ["--url", self.write_url, "--start", str(self.start), "--seed", str(self.seed)]
        report = compare.loadgen("metrics", *way, *shape, token=self.server.token)
        if report["samples_accepted"] != report["samples_sent"]:
            sys.exit(f"{report['samples_accepted']} of {report['samples_sent']} samples taken: {report['error_sample']}")
        return report

    def load(self):
        self.push("--concurrency", "4", "--batch", "10000", "--series", str(self.args.series), "--span", self.args.span)

    def queries(self):
        end = str(self.start + compare.seconds_of(self.args.span))
        way = ["--url", self.server.url, "--end", end, "--span", self.args.span, "--nocache", "--only", "instant_one_series"]
        asked = compare.loadgen("query", *way, "--duration", f"{self.args.seconds}s", token=self.server.token)["queries"][0]
        if asked["errors"]:
            sys.exit(f"queries failed: {asked['errors']} {asked['error_sample']}")
        return {key: asked["ms"][key] for key in KEPT}

    def writes(self):
        span = f"{self.args.seconds * DATA_SECONDS_PER_SECOND}s"
        shape = ["--series", str(WRITE_SERIES), "--span", span, "--concurrency", "1", "--batch", "2000", "--rate", str(WRITES_PER_SECOND)]
        report = self.push(*shape)
        return {key: report["request_ms"][key] for key in KEPT}

    def churn(self, stop, merges):
        """Writes, flushes and merges until told to stop."""
        while not stop.is_set():
            shape = ["--series", str(self.args.series), "--span", "30m", "--concurrency", "1", "--batch", "10000", "--rate", "300000"]
            self.push(*shape)
            self.admin("/-/flush")
            begun = time.monotonic()
            self.admin("/-/compact")
            merges.append(time.monotonic() - begun)

    def admin(self, path):
        compare.http(self.server.url + path, "POST", self.server.token, compare.ADMIN_SECONDS_MAX)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--span", default="6h")
    parser.add_argument("--seconds", type=int, default=12, help="of each of the four measurements")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures there")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pharos-latency-"))
    server = Pharos(folder / "data")
    rows = {}
    try:
        server.start()
        bench = Bench(server, args, int(time.time()) - 900 - compare.seconds_of(args.span))
        bench.load()
        bench.admin("/-/flush")
        bench.admin("/-/compact")
        for what in ("queries", "writes"):
            rows[what, "at rest"] = getattr(bench, what)()
        stop, merges = threading.Event(), []
        churning = threading.Thread(target=bench.churn, args=(stop, merges), daemon=True)
        churning.start()
        for what in ("queries", "writes"):
            rows[what, "flushing and merging"] = getattr(bench, what)()
        stop.set()
        churning.join()
    finally:
        server.stop()
        shutil.rmtree(folder)
    print("| ms | while | count | p50 | p95 | p99 | max |\n|---|---|---|---|---|---|---|")
    for (what, when), found in rows.items():
        print(f"| {what} | {when} | " + " | ".join(str(found[key]) for key in KEPT) + " |")
    print(f"\n{len(merges)} merges of everything, the longest of {max(merges):.1f} s")
    if args.json:
        args.json.write_text(json.dumps({f"{what} {when}": found for (what, when), found in rows.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
