#!/usr/bin/env python3
"""Measures Pharos and Debian's VictoriaMetrics and Prometheus under the same load, one after the other, and prints Markdown tables.

usage: benches/compare.py [--only metrics|traces] [--series 10000] [--span 6h] [--format rw1|otlp-http] [--traces 60000] [--runs 1] [--queries] [--cached]
       [--servers victoria-metrics,prometheus,pharos] [--json FILE]

Each server starts on a fresh data folder on loopback with its defaults, takes the load of `loadgen`, is flushed and merged
down, checked with `loadgen verify`, stopped, and weighed on disk. Compare CPU seconds, bytes and memory: wall-clock times of a
shared machine are noise. `loadgen CPU` is constant work, so it tells how slow the machine was during that row.
With --queries, a further table says which share of its peers' CPU time Pharos takes: at most half of VictoriaMetrics' is the aim for every
query, and at most a tenth of Prometheus' for those with `rate`.

There is no Debian package of a trace backend to compare with, so traces run on Pharos alone; so does OTLP, which Debian's VictoriaMetrics
does not take.

Environment (the Makefile sets it): PHAROS_BIN and LOADGEN_BIN, release builds. Needs Linux (/proc) and the servers.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

# Where metrics of a format go.
METRICS_PATHS = {"rw1": "/api/v1/write", "otlp-http": "/v1/metrics"}
SPANS_PER_TRACE = 20
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 120
MERGE_SECONDS_MAX = 600
ADMIN_SECONDS_MAX = 900
# Of loadgen's mix those that compute rates without having it in their name.
RATE_QUERIES = (
    "range_1h_15s_cpu_by_mode",
    "range_1h_60s_group_by_instance",
    "range_1h_60s_histogram_quantile",
    "range_1h_60s_topk",
    "range_1h_15s_one_host_cpu",
)
SCOPES = "metrics:write,metrics:read,traces:write,traces:read,admin"


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def seconds_of(duration):
    """Seconds of "6h", "30m" or "45s"."""
    found = re.fullmatch(r"(\d+)([smhd])", duration) or sys.exit(f"not a duration: {duration}")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def cpu_seconds(pid):
    """User and system time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def tree_bytes(folder, skip=()):
    """Size of all files below `folder`, without the top-level folders named in `skip`; a hard link counts once."""
    seen, total = set(), 0
    for place, folders, files in os.walk(folder):
        if place == str(folder):
            folders[:] = [name for name in folders if name not in skip]
        for name in files:
            about = os.lstat(os.path.join(place, name))
            if (about.st_dev, about.st_ino) not in seen:
                seen.add((about.st_dev, about.st_ino))
                total += about.st_size
    return total


def http(url, method="GET", token=None, timeout=30):
    """The body of an answer; an error status is an exception."""
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return reply.read().decode()


class Server:
    """A server process on a data folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self.token = None
        self.process = None

    def start(self):
        with open(self.folder.parent / f"{self.name}.log", "wb") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError):
                http(self.url + self.ready_path, timeout=2)
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{self.name} did not start; see its log:\n" + (self.folder.parent / f"{self.name}.log").read_text()[-3000:])
            time.sleep(0.1)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                sys.exit(f"{self.name} did not stop within {STOP_SECONDS_MAX} s after SIGTERM")


class Pharos(Server):
    name = "Pharos"
    ready_path = "/-/ready"

    def command(self):
        binary = os.environ["PHAROS_BIN"]
        self.folder.mkdir(parents=True, exist_ok=True)
        made = [binary, "token", "new", "--data-dir", str(self.folder), "--name", "bench", "--scopes", SCOPES, "--tenant", "*"]
        done = subprocess.run(made, check=True, capture_output=True, text=True)
        # The token is the last word of the output, whatever is said around it.
        self.token = done.stdout.split()[-1]
        off = [part for door in ("otlp-grpc", "otlp-http", "jaeger", "jaeger-grpc") for part in (f"--{door}", "off")]
        return [binary, "serve", "--data-dir", str(self.folder), "--listen", self.url.removeprefix("http://"), *off]

    def settle(self):
        for path in ("/-/flush", "/-/compact"):
            http(self.url + path, "POST", self.token, ADMIN_SECONDS_MAX)

    def disk_bytes(self):
        return tree_bytes(self.folder)


class VictoriaMetrics(Server):
    name = "VictoriaMetrics"
    ready_path = "/health"

    def command(self):
        address = self.url.removeprefix("http://")
        data = f"-storageDataPath={self.folder}"
        return ["victoria-metrics", f"-httpListenAddr={address}", data, "-retentionPeriod=100y", "-loggerLevel=WARN"]

    def settle(self):
        """Merges until each month's data are one part, or nothing gets better."""
        http(self.url + "/internal/force_flush", timeout=ADMIN_SECONDS_MAX)
        before = None
        deadline = time.monotonic() + MERGE_SECONDS_MAX
        while time.monotonic() < deadline:
            self.wait_idle(deadline)
            parts = self.parts()
            if parts <= 1 or parts == before:
                return
            before = parts
            http(self.url + "/internal/force_merge", timeout=ADMIN_SECONDS_MAX)
        sys.exit(f"VictoriaMetrics is still merging after {MERGE_SECONDS_MAX} s")

    def parts(self):
        lines = re.findall(r'^vm_parts\{type="storage/[^"]*"\} (\d+)', http(self.url + "/metrics"), re.M)
        if not lines:
            sys.exit("VictoriaMetrics' /metrics has no vm_parts: its names changed")
        return sum(int(n) for n in lines)

    def wait_idle(self, deadline):
        """Returns when the process used next to no CPU for three seconds."""
        quiet = 0
        while quiet < 3 and time.monotonic() < deadline:
            before = cpu_seconds(self.process.pid)
            time.sleep(1)
            quiet = quiet + 1 if cpu_seconds(self.process.pid) - before <= 0.05 else 0

    def disk_bytes(self):
        # Its saved caches are no data.
        return tree_bytes(self.folder, skip=("cache",))


class Prometheus(Server):
    name = "Prometheus"
    ready_path = "/-/ready"

    def command(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder.parent / "prometheus.yml"
        config.write_text("global: {}\n")
        features = "promql-at-modifier,promql-negative-offset"
        paths = [f"--config.file={config}", f"--storage.tsdb.path={self.folder}", "--storage.tsdb.retention.time=100y"]
        address = f"--web.listen-address={self.url.removeprefix('http://')}"
        return ["prometheus", *paths, address, "--web.enable-remote-write-receiver", f"--enable-feature={features}", "--log.level=warn"]

    def settle(self):
        """It compacts its head once a minute if there is anything to do, and cannot be asked to."""
        quiet, deadline = 0, time.monotonic() + MERGE_SECONDS_MAX
        while quiet < 75 and time.monotonic() < deadline:
            before = cpu_seconds(self.process.pid)
            time.sleep(1)
            quiet = quiet + 1 if cpu_seconds(self.process.pid) - before <= 0.05 else 0

    def disk_bytes(self):
        # Its newest hours are in its log alone.
        return tree_bytes(self.folder)


def loadgen(command, *args, token=None, check=True):
    """The JSON report of one loadgen run."""
    line = [os.environ["LOADGEN_BIN"], command, *args, *(["--token", token] if token else [])]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True)
    if check and done.returncode:
        sys.exit(f"loadgen {command} exited with {done.returncode}:\n{done.stdout[-3000:]}")
    return json.loads(done.stdout)


def measure(server, unit, push, verify, query=None):
    """Runs one server through load, settling, checking and stopping; returns the row."""
    say(f"{server.name}: {unit}")
    try:
        server.start()
        pid = server.process.pid
        report = push(server)
        accepted = report[f"{unit}_accepted"]
        if accepted != report[f"{unit}_sent"] or report["errors"]:
            sys.exit(f"{server.name} took {accepted} of {report[f'{unit}_sent']} {unit}: {report['errors']} {report['error_sample']}")
        row = {
            "server": server.name,
            "unit": unit,
            "count": accepted,
            "per_second": report[f"{unit}_per_s"],
            "cpu_s_per_million": report["usage"]["server_cpu_s"] / accepted * 1e6,
            "loadgen_cpu_s_per_million": report["usage"]["loadgen_cpu_s"] / accepted * 1e6,
            "peak_rss_mb": report["usage"]["server_peak_rss_mb"],
        }
        before = cpu_seconds(pid)
        server.settle()
        row["settle_cpu_s"] = cpu_seconds(pid) - before
        row["verified"] = verify(server)
        row["peak_rss_mb_after"] = peak_rss_mb(pid)
        if query:
            row["queries"] = query(server)
    finally:
        server.stop()
    row["disk_bytes_per_item"] = server.disk_bytes() / accepted
    return row


def metrics_row(server, args, start):
    shape = ["--series", str(args.series), "--span", args.span, "--start", str(start), "--seed", "1"]

    def push(s):
        way = ["--url", s.url + METRICS_PATHS[args.format], "--format", args.format]
        load = [*way, "--concurrency", "4", "--batch", "10000", "--server-pid", str(s.process.pid)]
        return loadgen("metrics", *load, *shape, token=s.token)

    def verify(s):
        # After OTLP, series of one name differ in more labels than loadgen knows to read single ones back.
        counts_only = ["--values", "0"] if args.format != "rw1" else []
        return loadgen("verify", "--url", s.url, *shape, *counts_only, token=s.token, check=False)["ok"]

    def query(s):
        end = str(start + seconds_of(args.span))
        common = ["--url", s.url, "--end", end, "--span", args.span, "--server-pid", str(s.process.pid)]
        rows = loadgen("query", *common, "--nocache", token=s.token)["queries"]
        if args.cached:
            add_cached(s, rows, common, int(end))
        return rows

    return measure(server, "samples", push, verify, query if args.queries else None)


def add_cached(server, rows, common, end):
    """Asks the range queries as a dashboard does, ten minutes after it did before, and compares with the answers without a cache."""
    ranges = [*common, "--only", "range_"]
    earlier = [str(end - 600) if part == str(end) else part for part in ranges]
    loadgen("query", *earlier, "--duration", "1s", "--min-runs", "1", token=server.token)
    kept = ("series", "points", "sum", "labels_hash")
    cached = loadgen("query", *ranges, "--duration", "5s", token=server.token)["queries"]
    by_name = {row["name"]: row for row in rows}
    for row in cached:
        plain = by_name[row["name"]]
        plain["cached_cpu_ms"] = row["server_cpu_ms_per_query"]
        plain["cached_alike"] = all(row[key] == plain[key] for key in kept)


def traces_row(server, args, start):
    shape = ["--traces", str(args.traces), "--spans-per-trace", str(SPANS_PER_TRACE), "--seed", "1"]

    def push(s):
        load = ["--url", s.url + "/v1/traces", "--batch", "2000", "--concurrency", "4", "--encoding", "gzip"]
        time_args = ["--start", str(start), "--span-of-time", "1h", "--server-pid", str(s.process.pid)]
        return loadgen("traces", *load, *time_args, *shape, token=s.token)

    def verify(s):
        """The trace that loadgen's query mix asks for by id is there whole."""
        common = ["--kind", "jaeger", "--url", s.url, "--end", str(start + 3600), "--span", "1h", "--only", "trace_by_id"]
        found = loadgen("query", *common, "--duration", "1s", "--traces", str(args.traces), "--seed", "1", token=s.token)["queries"]
        return [(row["series"], row["points"]) for row in found] == [(1, SPANS_PER_TRACE)]

    def query(s):
        common = ["--kind", "jaeger", "--url", s.url, "--end", str(start + 3600), "--span", "1h", "--server-pid", str(s.process.pid)]
        return loadgen("query", *common, "--traces", str(args.traces), "--seed", "1", token=s.token)["queries"]

    return measure(server, "spans", push, verify, query if args.queries else None)


def table(rows):
    lines = [
        "| server | load | CPU s/M | CPU s of flush + merge | peak RSS MB (load / at the end) | disk B each | all found | items/s | loadgen CPU s/M |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['server']} | {row['count'] / 1e6:.2f} M {row['unit']} | {row['cpu_s_per_million']:.2f} | {row['settle_cpu_s']:.2f} "
            f"| {row['peak_rss_mb']:.0f} / {row['peak_rss_mb_after']:.0f} | {row['disk_bytes_per_item']:.3f} "
            f"| {'yes' if row['verified'] else '**no**'} | {row['per_second']:,.0f} | {row['loadgen_cpu_s_per_million']:.2f} |"
        )
    return "\n".join(lines)


def query_table(rows):
    """CPU milliseconds of each query, a column per server that was asked."""
    asked = [row for row in rows if row.get("queries")]
    names = list(dict.fromkeys(q["name"] for row in asked for q in row["queries"]))
    lines = ["| query (server CPU ms, no cache) | " + " | ".join(f"{r['server']} {r['unit']}" for r in asked) + " |", "|---" * (len(asked) + 1) + "|"]
    for name in names:
        cells = []
        for row in asked:
            found = next((q for q in row["queries"] if q["name"] == name), None)
            cells.append("" if not found else f"{found['server_cpu_ms_per_query']} (errors {found['errors']})" if found["errors"] else f"{found['server_cpu_ms_per_query']}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def share_table(rows):
    """What Pharos takes of each peer's CPU time for the queries that both answered, and whether that is what we aim at."""
    asked = {row["server"]: {q["name"]: q for q in row["queries"]} for row in rows if row.get("queries") and row["unit"] == "samples"}
    ours = asked.pop(Pharos.name, None)
    if not ours or not asked:
        return ""
    lines = ["| query | " + " | ".join(f"of {name}" for name in asked) + " | aim |", "|---" * (len(asked) + 2) + "|"]
    for name, query in ours.items():
        shares = {peer: query["server_cpu_ms_per_query"] / max(found[name]["server_cpu_ms_per_query"], 1e-3) for peer, found in asked.items()}
        aims = {VictoriaMetrics.name: 0.5, **({Prometheus.name: 0.1} if "rate" in name or name in RATE_QUERIES else {})}
        missed = [peer for peer, share in shares.items() if share > aims.get(peer, 1)]
        lines.append(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares.values()) + f" | {'**missed**: ' + ', '.join(missed) if missed else 'met'} |")
    return "\n".join(lines)


def cached_table(rows):
    """Range queries asked again ten minutes later, with their cache."""
    found = [(row, q) for row in rows for q in row.get("queries") or [] if "cached_cpu_ms" in q]
    lines = ["| range query with its cache | server | CPU ms | as without |", "|---|---|---|---|"]
    lines += [f"| {q['name']} | {row['server']} | {q['cached_cpu_ms']} | {'yes' if q['cached_alike'] else '**no**'} |" for row, q in found]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("metrics", "traces"))
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--span", default="6h")
    parser.add_argument("--format", choices=METRICS_PATHS, default="rw1", help="of metrics: remote write 1.0, or OTLP over HTTP with gzip (Pharos only)")
    parser.add_argument("--traces", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=1, help="rounds over all servers; each is a row")
    parser.add_argument("--queries", action="store_true", help="also run loadgen's query mixes")
    parser.add_argument("--cached", action="store_true", help="with --queries: also ask the range queries with the servers' result caches, and compare the answers")
    parser.add_argument("--servers", default="victoria-metrics,pharos", help="comma list, in the order to run them")
    parser.add_argument("--json", type=pathlib.Path, help="also write the rows there")
    parser.add_argument("--dir", type=pathlib.Path, help="where the data folders go (default: the system's temporary folder)")
    args = parser.parse_args()
    kinds = {"victoria-metrics": VictoriaMetrics, "prometheus": Prometheus, "pharos": Pharos}
    servers = [kinds.get(name) or sys.exit(f"unknown server {name}") for name in args.servers.split(",")]
    needed = ["LOADGEN_BIN"] + (["PHAROS_BIN"] if Pharos in servers else [])
    for variable in needed:
        if not os.access(os.environ.get(variable, ""), os.X_OK):
            sys.exit(f"{variable} names no program: run `make bench-compare`")

    rows = []
    # The same data for every server and run, the newest a quarter of an hour old.
    now = int(time.time())
    for run in range(args.runs):
        for kind in servers:
            for unit, row in (("metrics", metrics_row), ("traces", traces_row)):
                if args.only not in (None, unit) or (kind is not Pharos and (unit == "traces" or args.format != "rw1")):
                    continue
                start = now - 900 - (seconds_of(args.span) if unit == "metrics" else 3600)
                folder = pathlib.Path(tempfile.mkdtemp(prefix="pharos-compare-", dir=args.dir))
                try:
                    rows.append(row(kind(folder / "data"), args, start))
                finally:
                    shutil.rmtree(folder)
    print(table(rows))
    if args.queries:
        print("\n" + query_table(rows))
        print("\n" + share_table(rows))
    if args.cached:
        print("\n" + cached_table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    alike = all(q.get("cached_alike", True) for row in rows if row["server"] == Pharos.name for q in row.get("queries") or [])
    sys.exit(0 if alike and all(row["verified"] for row in rows) else 1)


if __name__ == "__main__":
    main()
