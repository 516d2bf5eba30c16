#!/usr/bin/env python3
"""What spans cost: taken in, on disk, found and shown.

usage: benches/traces.py [--traces 60000] [--protocol http|grpc] [--asks 20] [--json FILE]

A server on a fresh data folder takes traces of 20 spans that began within the last hour, and is told to flush and merge everything. Then
one connection asks for the newest 20 traces in nine ways, for one trace, for lists, twenty times in each of nine rounds after a first time
that does not count: the table has the median of the rounds. Each answer is Jaeger's (API v1), all of it read. Last, a single span is sent
and asked for until a search finds it, ten times.

CPU is that of all threads of the server, in a table of nanoseconds that Linux keeps for each; threads that end meanwhile take theirs
along, so a server that merges shows too little or too much. Loads and figures: benches/README.md.

Environment: PHAROS_BIN and LOADGEN_BIN, release builds. Needs Linux (/proc).
"""

import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import compare

SPANS_PER_TRACE = compare.SPANS_PER_TRACE
SEEN_SECONDS_MAX = 5
SEEN_TIMES = 10
ROUNDS = 9
# What the searches ask for, beside `limit=20` and the last 62 minutes.
SEARCHES = {
    "newest 20 of a service": {"service": "gateway"},
    "of a service and operation": {"service": "gateway", "operation": "POST /api/v1/orders"},
    "of a service, in error": {"service": "gateway", "tags": '{"error":"true"}'},
    "of a service, with status 500": {"service": "cart", "tags": '{"http.response.status_code":"500"}'},
    "with a rare tag": {"service": "gateway", "tags": '{"enduser.id":"user-77"}'},
    "of a minimal duration": {"service": "gateway", "minDuration": "200ms"},
    "of the last 5 minutes": {"service": "gateway", "lookback_s": 300},
    "with a value that nothing has": {"service": "gateway", "tags": '{"enduser.id":"nobody"}'},
    "without a service, status 404": {"tags": '{"http.response.status_code":"404"}'},
}


class Pharos(compare.Pharos):
    def command(self):
        line = super().command()
        self.grpc = f"127.0.0.1:{compare.free_port()}"
        line[line.index("--otlp-grpc") + 1] = self.grpc
        return line


class Bench:
    def __init__(self, server, args):
        self.server, self.args = server, args

    def load(self):
        url = self.server.url + "/v1/traces" if self.args.protocol == "http" else f"http://{self.server.grpc}"
        shape = ["--traces", str(self.args.traces), "--spans-per-trace", str(SPANS_PER_TRACE), "--retries", "50"]
        report = compare.loadgen("traces", "--url", url, "--protocol", self.args.protocol, *shape, token=self.server.token)
        spans = self.args.traces * SPANS_PER_TRACE
        if report["spans_accepted"] != spans:
            sys.exit(f"{report['spans_accepted']} of {spans} spans taken: {report['error_sample']}")
        taken, peak = compare.cpu_seconds(self.server.process.pid), compare.peak_rss_mb(self.server.process.pid)
        self.server.settle()
        settled = compare.cpu_seconds(self.server.process.pid)
        return {
            f"CPU s a million spans, OTLP/{self.args.protocol}": taken / spans * 1e6,
            "CPU s a million spans, flush and merge of everything": (settled - taken) / spans * 1e6,
            "peak RSS MB, load": peak,
            "peak RSS MB, with the merge": compare.peak_rss_mb(self.server.process.pid),
            "disk B a span": self.server.disk_bytes() / spans,
        }

    def search(self, lookback_s=3720, **asked):
        now_us = int(time.time() * 1e6)
        asked |= {"limit": 20, "start": now_us - lookback_s * 1_000_000, "end": now_us}
        return "/api/traces?" + urllib.parse.urlencode(asked)

    def get(self, path):
        return compare.http(self.server.url + path, token=self.server.token)

    def ask(self, path):
        """CPU of one answer in ms, its bytes, and how much it lists."""
        answer = self.get(path)
        spent = []
        for _ in range(ROUNDS):
            before = self.cpu_ns()
            for _ in range(self.args.asks):
                self.get(path)
            spent.append((self.cpu_ns() - before) / self.args.asks / 1e6)
        return {"CPU ms": statistics.median(spent), "bytes": len(answer), "found": len(json.loads(answer)["data"])}

    def cpu_ns(self):
        spent = 0
        for task in pathlib.Path(f"/proc/{self.server.process.pid}/task").iterdir():
            try:
                spent += int((task / "schedstat").read_text().split()[0])
            except FileNotFoundError:
                pass  # A thread that just ended.
        return spent

    def asked(self):
        rows = {name: self.ask(self.search(**asked)) for name, asked in SEARCHES.items()}
        newest = json.loads(self.get(self.search(service="gateway")))["data"]
        if len(newest) != 20:
            sys.exit(f"{len(newest)} traces of 20 found")
        rows["trace by id"] = self.ask("/api/traces/" + newest[7]["traceID"])
        rows["services"] = self.ask("/api/services")
        rows["operations of a service"] = self.ask("/api/operations?service=gateway")
        return rows

    def seen_ms(self):
        """From the acknowledgement of a span until a search has found it, the longest of some."""
        longest = 0
        for number in range(SEEN_TIMES):
            now_ns = int(time.time() * 1e9)
            span = {"traceId": f"{now_ns:032x}", "spanId": f"{number + 1:016x}", "name": "seen"}
            span |= {"startTimeUnixNano": str(now_ns), "endTimeUnixNano": str(now_ns + 1000)}
            service = {"key": "service.name", "value": {"stringValue": f"seen-{number}"}}
            body = {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": [{"spans": [span]}]}]}
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.server.token}"}
            request = urllib.request.Request(self.server.url + "/v1/traces", json.dumps(body).encode(), headers)
            urllib.request.urlopen(request, timeout=30).read()
            begun = time.monotonic()
            while not json.loads(self.get(self.search(service=f"seen-{number}")))["data"]:
                if time.monotonic() - begun > SEEN_SECONDS_MAX:
                    sys.exit("an acknowledged span is not found")
            longest = max(longest, time.monotonic() - begun)
        return longest * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=60_000)
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--asks", type=int, default=20, help="how often each question is asked in each of nine rounds")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures there")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pharos-traces-"))
    server = Pharos(folder / "data")
    try:
        server.start()
        bench = Bench(server, args)
        figures = bench.load()
        rows = bench.asked()
        figures["ms until an acknowledged span is found, at most"] = bench.seen_ms()
        figures["peak RSS MB, in the end"] = compare.peak_rss_mb(server.process.pid)
    finally:
        server.stop()
        shutil.rmtree(folder)
    print(f"| {args.traces * SPANS_PER_TRACE / 1e6:g} M spans | |\n|---|---|")
    for name, figure in figures.items():
        print(f"| {name} | {figure:.1f} |")
    print("\n| asked | server CPU ms | bytes | found |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['CPU ms']:.2f} | {row['bytes']} | {row['found']} |")
    if args.json:
        args.json.write_text(json.dumps({"figures": figures, "asked": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
