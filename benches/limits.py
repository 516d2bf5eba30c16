#!/usr/bin/env python3
"""What one heavy query may take: memory of a large aggregation, and how soon a query ends that is over its budget.

usage: benches/limits.py [--series 100000] [--span 1h] [--servers victoria-metrics,prometheus,pharos] [--json FILE]

Every server holds the same counters, all of one metric name, one sample every 15 s. Then

- memory: `sum by (job) (rate(http_requests_total[5m]))` over all of them and the whole span, every 60 s, without a result cache: how far the
  peak of resident memory lies above what the server held before the query;
- time (Pharos): heavy queries of several kinds with a `timeout` that they cannot keep: how long after it they end;
- budget (Pharos, started again with one small limit after the other): queries that need more than they may have: how long they take to fail, how much of that came after
  the limit was crossed (pharos_query_refusal_seconds), how far memory rises meanwhile, and how much of that is left two seconds later.

Peaks are those of /proc/PID/status (VmHWM), which is reset before each query. Environment: PHAROS_BIN and LOADGEN_BIN, release builds.
Needs Linux (/proc) and the servers.
"""

import argparse
import json
import pathlib
import re
import shutil
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import compare

STEP_SECONDS = 60
TIMEOUTS_SECONDS = (0.05, 0.2)
OVERRUN_SECONDS_MAX = 0.1
REST_SECONDS = 2
BUDGETS = {"--query-memory-max": "64MiB", "--query-samples-max": "2000000", "--query-series-max": "50000"}  # Each alone: one would hide the others.
SUM_OF_RATES = "sum by (job) (rate(http_requests_total[5m]))"
# Each keeps the engine busy in another place.
HEAVY = {
    "aggregated in the store": SUM_OF_RATES,
    "every series answered": "rate(http_requests_total[5m])",
    "a long window": "sum(quantile_over_time(0.9, http_requests_total[50m]))",
    "a group for each series": "sum by (instance, handler) (rate(http_requests_total[5m]))",
    "values of a group at once": "quantile by (job) (0.9, http_requests_total)",
    "counted by value": 'count_values("v", http_requests_total)',
    "ranked": "topk(10, http_requests_total)",
    "joined": "http_requests_total / on (instance, handler, pod) http_requests_total",
    "united": "http_requests_total or http_requests_total offset 1m",
    "labels replaced": 'label_replace(http_requests_total, "x", "$1", "handler", ".*/(.*)")',
    "a subquery": "max_over_time(sum by (job) (rate(http_requests_total[5m]))[50m:15s])",
    "sorted": "sort(http_requests_total * 2)",
}


def rss_mb(pid, field="VmRSS"):
    return int(re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


class Watch:
    """Memory of a process around one query."""

    def __init__(self, pid):
        self.pid = pid
        self.before_mb = rss_mb(pid)
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")

    def above_mb(self):
        """How far the peak lay above the beginning."""
        return rss_mb(self.pid, "VmHWM") - self.before_mb

    def left_mb(self):
        """What is still held a moment later."""
        time.sleep(REST_SECONDS)
        return rss_mb(self.pid) - self.before_mb


class TightPharos(compare.Pharos):
    """One that grants a query little."""

    line = None

    def command(self):
        if self.line is None:
            self.line = super().command()
        return [*self.line, *(part for limit in getattr(self, "limits", {}).items() for part in limit)]


def ask(server, query, start, end, **more):
    """Status, seconds, and the answer's text."""
    form = {"query": query, "start": start, "end": end, "step": STEP_SECONDS, "nocache": 1, **more}
    request = urllib.request.Request(f"{server.url}/api/v1/query_range?{urllib.parse.urlencode(form)}")
    if server.token:
        request.add_header("Authorization", f"Bearer {server.token}")
    begun = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:
            status, text = reply.status, reply.read()
    except urllib.error.HTTPError as refused:
        status, text = refused.code, refused.read()
    return status, time.monotonic() - begun, text


def load(server, args, start):
    shape = ["--series", str(args.series), "--span", args.span, "--start", str(start), "--seed", "1", "--one-metric"]
    way = ["--url", server.url + "/api/v1/write", "--concurrency", "4", "--batch", "10000"]
    report = compare.loadgen("metrics", *way, *shape, token=server.token)
    if report["samples_accepted"] != report["samples_sent"]:
        sys.exit(f"{server.name} took {report['samples_accepted']} of {report['samples_sent']} samples")
    server.settle()


def memory_row(server, start, end):
    """The large aggregation, twice: the first run also fills what a server caches of its files."""
    pid, peaks = server.process.pid, []
    for _ in range(2):
        time.sleep(REST_SECONDS)
        watch, before = Watch(pid), compare.cpu_seconds(pid)
        status, seconds, text = ask(server, SUM_OF_RATES, start, end)
        if status != 200:
            sys.exit(f"{server.name}: {status} {text[:300]}")
        peaks.append(watch.above_mb())
        cpu = compare.cpu_seconds(pid) - before
    groups = len(json.loads(text)["data"]["result"])
    return {"server": server.name, "first_mb": peaks[0], "again_mb": peaks[1], "idle_mb": watch.before_mb, "cpu_s": cpu, "seconds": seconds, "groups": groups}


def timeout_rows(server, start, end):
    rows = []
    for kind, query in HEAVY.items():
        overruns = []
        for timeout in TIMEOUTS_SECONDS:
            status, seconds, text = ask(server, query, start, end, timeout=f"{timeout * 1000:.0f}ms")
            # What is done in time is no matter of this table.
            if status != 200:
                overruns.append(seconds - timeout)
        rows.append({"kind": kind, "overruns_s": overruns})
    return rows


def refusals(server):
    """How many queries were refused so far, and for how long all of them together went on after that."""
    text = compare.http(server.url + "/metrics", token=server.token)
    total = lambda what: sum(float(n) for n in re.findall(rf"^pharos_query_refusal_seconds_{what}{{[^}}]*}} (\S+)", text, re.M))
    return total("count"), total("sum")


def budget_rows(server, limit, start, end):
    rows, pid = [], server.process.pid
    for kind, query in HEAVY.items():
        (count, total), watch = refusals(server), Watch(pid)
        status, seconds, text = ask(server, query, start, end)
        above = watch.above_mb()
        left, (count_after, total_after) = watch.left_mb(), refusals(server)
        after = total_after - total if count_after > count else None
        if after is None and status != 200:
            sys.exit(f"{kind} was refused, and pharos_query_refusal_seconds does not know")
        rows.append({"limit": limit, "kind": kind, "status": status, "seconds": seconds, "after_s": after, "above_mb": above, "left_mb": left, "said": json.loads(text).get("error", "")})
    return rows


def beyond(row):
    return "" if row["after_s"] is None else f"{row['after_s'] * 1000:.1f}"


def report(memory, timeouts, budgets):
    print("| server | idle MB | peak above it, first run | again | CPU s | groups |\n|---|---|---|---|---|---|")
    for row in memory:
        print(f"| {row['server']} | {row['idle_mb']:.0f} | {row['first_mb']:.1f} | {row['again_mb']:.1f} | {row['cpu_s']:.2f} | {row['groups']} |")
    if timeouts:
        print(f"\n| query over its time of {' and '.join(f'{t * 1000:.0f} ms' for t in TIMEOUTS_SECONDS)} | ends after it, ms |\n|---|---|")
        for row in timeouts:
            print(f"| {row['kind']} | {', '.join(f'{1000 * over:.0f}' for over in row['overruns_s']) or 'done in time'} |")
        all_ms = [over * 1000 for row in timeouts for over in row["overruns_s"]]
        print(f"\nlatest {max(all_ms):.0f} ms, median {statistics.median(all_ms):.0f} ms")
    if budgets:
        print("\n| limit | query | status | ms | of that beyond the limit | peak MB above | MB left | said |\n|---|---|---|---|---|---|---|---|")
        for row in budgets:
            print(f"| {row['limit']} | {row['kind']} | {row['status']} | {row['seconds'] * 1000:.0f} | {beyond(row)} | {row['above_mb']:.1f} | {row['left_mb']:.1f} | {row['said'][:90]} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--span", default="1h")
    parser.add_argument("--servers", default="victoria-metrics,prometheus,pharos")
    parser.add_argument("--json", type=pathlib.Path, help="also write the rows there")
    parser.add_argument("--dir", type=pathlib.Path, help="where the data folders go (default: the system's temporary folder)")
    args = parser.parse_args()
    kinds = {"victoria-metrics": compare.VictoriaMetrics, "prometheus": compare.Prometheus, "pharos": TightPharos}
    start = int(time.time()) - 900 - compare.seconds_of(args.span)
    end = start + compare.seconds_of(args.span)
    memory, timeouts, budgets = [], [], []
    for name in args.servers.split(","):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="pharos-limits-", dir=args.dir))
        server = kinds[name](folder / "data")
        try:
            compare.say(server.name)
            server.start()
            load(server, args, start)
            memory.append(memory_row(server, start, end))
            if name == "pharos":
                timeouts = timeout_rows(server, start, end)
                for name, value in BUDGETS.items():
                    server.stop()
                    server.limits = {name: value}
                    server.start()
                    budgets += budget_rows(server, f"{name.removeprefix('--query-')} {value}", start, end)
        finally:
            server.stop()
            shutil.rmtree(folder)
    report(memory, timeouts, budgets)
    if args.json:
        args.json.write_text(json.dumps({"memory": memory, "timeouts": timeouts, "budgets": budgets}, indent=1) + "\n")
    late = [row["kind"] for row in timeouts if any(over > OVERRUN_SECONDS_MAX for over in row["overruns_s"])]
    late += [f"{row['kind']} ({row['limit']})" for row in budgets if (row["after_s"] or 0) > OVERRUN_SECONDS_MAX]
    if late:
        sys.exit(f"over {OVERRUN_SECONDS_MAX * 1000:.0f} ms late: {', '.join(late)}")


if __name__ == "__main__":
    main()
