#!/usr/bin/env python3
"""Overload: what becomes of memory, of the latency of accepted requests and of what was acknowledged when twice as much comes as can be done.

usage: benches/overload.py [--only metrics|traces] [--normal 120] [--overload 300] [--slow 500] [--half-open 2000] [--json FILE]
       benches/overload.py --short        (some two minutes, for a machine that does other things too: only what must hold anywhere fails)

For remote write, then on a fresh server for OTLP spans:

1. capacity: items a second that are taken when eight senders send as fast as they are answered;
2. normal load: half of it;
3. overload: four times as many senders offer twice the capacity and try again what is refused until it is taken, beside bodies that come byte by byte (with a valid
   token) and connections that say nothing. What was really offered is counted, repetitions included;
4. normal load once more: merges and caches grow with what is stored, so that the server before the overload is not the one that it met. What is normal is the
   greater figure of both times;
5. every item that was acknowledged is looked for, the server is killed (SIGKILL), started again, and they are looked for again.

Resident memory is sampled; latency is that of accepted requests, at the sender, from the begin of the attempt that was accepted. Fails where an acknowledged item is
missing, where the server does not answer or restart, where it takes more than 512 MB, and (not with --short) where memory rises by more than a fifth above that of normal load or the p99 of accepted
requests above three times that of normal load.

The load generator runs on the same machine. With two cores or more the server gets one half of them and everything else the other (sched_setaffinity), in all
phases alike, so that latency is the server's and not that of a sender that waits for a core; --shared leaves them all to all. The CPU seconds of both are printed.

Environment: PHAROS_BIN and LOADGEN_BIN, release builds. Needs Linux (/proc). Some 3 GB of disk for the full length.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import compare

RSS_RISE_MAX = 1.2
RSS_MB_MAX = 512
P99_RISE_MAX = 3
SAMPLE_SECONDS = 0.2
PROBE_SECONDS = 10
# Every item is offered until it is taken.
RETRIES = "1000000"
# Strangers come from many addresses, or the limit for one of them would be all that is measured.
ADDRESS_CONNECTIONS = 50


class Beside:
    """What goes on in a thread of its own until the end of the block."""

    def __init__(self):
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


class Rss(Beside):
    """Resident memory of a process, sampled; MB."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.seen = pid, []

    def run(self):
        while not self.ended.wait(SAMPLE_SECONDS):
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
                self.seen.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024)

    def told(self):
        seen = sorted(self.seen) or [0]
        return {"max": round(seen[-1]), "median": round(seen[len(seen) // 2])}


class Nuisances(Beside):
    """Bodies that come byte by byte, and connections that say nothing; those that the server closes are opened again."""

    def __init__(self, server, path, slow, half_open):
        super().__init__()
        host, port = server.url.removeprefix("http://").split(":")
        self.address = (host, int(port))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nContent-Type: application/x-protobuf\r\n"
        self.slow_head = (head + "Content-Length: 1000000\r\n\r\n").encode()
        self.wanted = {self.slow_head: slow, b"": half_open}
        self.open = {self.slow_head: set(), b"": set()}
        self.opened, self.open_max, self.closed_by_server = 0, 0, 0
        self.selector = selectors.DefaultSelector()

    def run(self):
        while not self.ended.wait(1):
            for key, _ in self.selector.select(timeout=0):
                self.drop_if_closed(key.fileobj)
            for head, wanted in self.wanted.items():
                if head:
                    for peer in list(self.open[head]):
                        with contextlib.suppress(OSError):
                            peer.send(b"\0")
                for _ in range(wanted - len(self.open[head])):
                    if self.ended.is_set():
                        return
                    self.connect(head)
            self.open_max = max(self.open_max, sum(map(len, self.open.values())))

    def connect(self, head):
        number = self.opened // ADDRESS_CONNECTIONS
        self.opened += 1
        with contextlib.suppress(OSError):
            source = f"127.{1 + bool(head)}.{number // 200 % 200}.{1 + number % 200}"
            peer = socket.create_connection(self.address, timeout=1, source_address=(source, 0))
            peer.setblocking(False)
            peer.send(head)
            self.open[head].add(peer)
            self.selector.register(peer, selectors.EVENT_READ)

    def drop_if_closed(self, peer):
        """An answer is no end: what follows it is."""
        with contextlib.suppress(BlockingIOError):
            try:
                if peer.recv(4096):
                    return
            except ConnectionError:
                pass
            self.closed_by_server += 1
            self.selector.unregister(peer)
            for peers in self.open.values():
                peers.discard(peer)
            peer.close()

    def __exit__(self, *error):
        super().__exit__(*error)
        for peers in self.open.values():
            for peer in peers:
                peer.close()


class Metrics:
    """Remote write 1.0 of the same series all the time, 7,200 samples a request; each phase follows the one before it."""

    name, path, noun = "metrics", "/api/v1/write", "samples"
    probe_items = 2_000_000

    def __init__(self, args):
        # However many senders there are, a request has the series of one target and so many samples of each.
        self.series, self.fold = 240 * args.over_senders, 30
        # All phases end before now, whatever the machine takes in a second.
        self.next_start = int(time.time()) - 5 * 86_400

    def shape(self, items):
        seconds = max(2, round(items / self.series / self.fold)) * self.fold
        # A gap between two phases: each is looked for alone.
        start, self.next_start = self.next_start, self.next_start + seconds + 60
        return ["--series", str(self.series), "--interval", "1s", "--span", f"{seconds}s", "--start", str(start), "--seed", "1", "--fold", str(self.fold)]

    def push_line(self, server, shape):
        return ["metrics", "--url", server.url + self.path, "--batch", "7200", *shape]

    def verify_line(self, server, shape):
        return ["verify", "--url", server.url, *shape]


class Traces:
    """Spans by OTLP/HTTP with gzip, 2,000 a request."""

    name, path, noun = "traces", "/v1/traces", "spans"
    probe_items = 200_000
    spans_per_trace, batch = 20, 2_000

    def __init__(self, _args):
        self.next_seed = 1

    def shape(self, items):
        seed, self.next_seed = self.next_seed, self.next_seed + 1
        count = max(1, round(items / self.spans_per_trace))
        return ["--traces", str(count), "--spans-per-trace", str(self.spans_per_trace), "--seed", str(seed), "--start", "-30m", "--span-of-time", "20m"]

    def push_line(self, server, shape):
        return ["traces", "--url", server.url + self.path, "--batch", str(self.batch), *shape]

    def verify_line(self, server, shape):
        # A request is stored whole or not at all: two traces of each are asked for.
        return ["verify-traces", "--url", server.url, "--every", str(self.batch // self.spans_per_trace // 2), *shape]


def loadgen(server, line):
    done = subprocess.run([os.environ["LOADGEN_BIN"], *line, "--token", server.token], stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout


def push(server, load, shape, concurrency, rate=None):
    limit = ["--rate", str(round(rate))] if rate else []
    line = [*load.push_line(server, shape), "--concurrency", str(concurrency), "--retries", RETRIES, *limit]
    before = compare.cpu_seconds(server.process.pid)
    _, told = loadgen(server, line)
    report = json.loads(told)
    seconds = max(report["seconds"], 0.001)
    mean = report[f"{load.noun}_sent"] / max(report["requests"] - report["retries"], 1)
    return {
        "seconds": round(seconds, 1),
        "offered_per_s": round(report["requests"] * mean / seconds),
        "accepted": report[f"{load.noun}_accepted"],
        "sent": report[f"{load.noun}_sent"],
        "accepted_per_s": round(report[f"{load.noun}_accepted"] / seconds),
        "refused_requests": report["retries"],
        "errors": report["errors"],
        "latency_ms": report["request_ms"],
        "server_cpu_s": round(compare.cpu_seconds(server.process.pid) - before, 1),
        "loadgen_cpu_s": report["usage"]["loadgen_cpu_s"],
    }


def verify(server, load, shapes, when):
    for shape in shapes:
        code, told = loadgen(server, load.verify_line(server, shape))
        if code:
            sys.exit(f"{load.name}, {when}: what was acknowledged is missing:\n{told[-2000:]}")


class Pharos(compare.Pharos):
    """The server, on cores of its own, which may be started again on the same folder."""

    line, cores = None, None

    def command(self):
        if self.line is None:
            self.line = super().command()
        return self.line

    def start(self):
        mine = os.sched_getaffinity(0)
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        try:
            super().start()
        finally:
            os.sched_setaffinity(0, mine)


def run(load, server, args):
    pid = server.process.pid
    shapes = []

    def shape(items):
        shapes.append(load.shape(items))
        return shapes[-1]

    probe = push(server, load, shape(load.probe_items), 8)
    warm = push(server, load, shape(probe["accepted_per_s"] * min(PROBE_SECONDS, args.normal)), 8)
    capacity = warm["accepted_per_s"]
    compare.say(f"{load.name}: capacity {capacity} {load.noun}/s, p99 {warm['latency_ms']['p99']} ms")

    def normal_load(when):
        with Rss(pid) as rss:
            normal = push(server, load, shape(capacity / 2 * args.normal), args.senders, capacity / 2)
        normal["rss_mb"] = rss.told()
        compare.say(f"{load.name}: normal {when}: {normal['accepted_per_s']}/s, p99 {normal['latency_ms']['p99']} ms, RSS {normal['rss_mb']}")
        return normal

    normal = normal_load("before")
    with Rss(pid) as rss, Nuisances(server, load.path, args.slow, args.half_open) as nuisances:
        over = push(server, load, shape(capacity * args.overload), args.over_senders, capacity * 2)
    over["rss_mb"] = rss.told()
    over["nuisances"] = {"open_max": nuisances.open_max, "closed_by_server": nuisances.closed_by_server}
    compare.say(
        f"{load.name}: overload offered {over['offered_per_s']}/s, accepted {over['accepted_per_s']}/s, p99 {over['latency_ms']['p99']} ms, "
        f"RSS {over['rss_mb']}, {over['nuisances']}"
    )
    after = normal_load("after")
    for name, report in (("normal", normal), ("overload", over), ("normal after it", after)):
        if report["accepted"] != report["sent"]:
            sys.exit(f"{load.name}, {name}: {report['sent'] - report['accepted']} were never taken: {report['errors']}")
    if over["rss_mb"]["max"] > RSS_MB_MAX:
        sys.exit(f"{load.name}, overload: {over['rss_mb']['max']} MB are in memory, more than {RSS_MB_MAX}")
    verify(server, load, shapes, "after the overload")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server.start()
    verify(server, load, shapes, "after SIGKILL")
    compare.say(f"{load.name}: all acknowledged {load.noun} are there, before and after SIGKILL")
    faults = []
    rss_mb = max(report["rss_mb"]["max"] for report in (normal, after))
    p99_ms = max(report["latency_ms"]["p99"] for report in (normal, after))
    if over["rss_mb"]["max"] > rss_mb * RSS_RISE_MAX:
        faults.append(f"{load.name}: memory rose from {rss_mb} to {over['rss_mb']['max']} MB")
    if over["latency_ms"]["p99"] > p99_ms * P99_RISE_MAX:
        faults.append(f"{load.name}: p99 of accepted requests rose from {p99_ms} to {over['latency_ms']['p99']} ms")
    return {"capacity_per_s": capacity, "normal": normal, "overload": over, "normal_after": after, "acknowledged_lost": 0, "faults": faults}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("metrics", "traces"))
    parser.add_argument("--normal", type=int, default=120)
    parser.add_argument("--overload", type=int, default=300)
    parser.add_argument("--senders", type=int, default=64)
    # A sender has one request under way: fewer than these cannot offer twice the capacity.
    parser.add_argument("--over-senders", type=int, default=256)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--half-open", type=int, default=2000)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    if args.short:
        args.normal, args.overload = min(args.normal, 8), min(args.overload, 12)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files[1], 16384), files[1]))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1 and not args.shared:
        half = len(cores) // 2
        Pharos.cores = set(cores[:half])
        os.sched_setaffinity(0, cores[half:])
    outcome = {}
    for load in (Metrics, Traces):
        if args.only not in (None, load.name):
            continue
        with tempfile.TemporaryDirectory(prefix="pharos-overload-") as folder:
            server = Pharos(pathlib.Path(folder) / "data")
            server.start()
            try:
                outcome[load.name] = run(load(args), server, args)
            finally:
                server.stop()
    print(json.dumps(outcome, indent=2))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(outcome, indent=2))
    faults = [fault for report in outcome.values() for fault in report["faults"]]
    if faults and not args.short:
        sys.exit("\n".join(faults))
    # As test runners close: an item that was lost, or a server that was, has ended this before.
    print(f"overload: {len(outcome)} passed, 0 failed")


if __name__ == "__main__":
    main()
