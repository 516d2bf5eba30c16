#!/usr/bin/env python3
"""Runs upstream Prometheus' promqltest scripts against the release binary; every case must pass.

The scripts are not part of this repository: PHAROS_CONFORMANCE names the folder that has `promqltest/*.test`. CI demands it.
A case that must fail for now stands in `tests/data/conformance-gaps.txt`, if there is one: a line `FILE COUNT REASON` lets
exactly COUNT cases of FILE fail. Fewer are an error too, so that the list never says more than is true.
"""

import os
import pathlib
import re
import subprocess
import sys
import textwrap

GAPS = pathlib.Path(__file__).resolve().parent.parent / "data" / "conformance-gaps.txt"
GAP = re.compile(r"(?P<name>\S+) +(?P<count>[1-9][0-9]*) +(?P<reason>\S.*)")
CLOSING = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)
FILE_SECONDS_MAX = 120


def known_gaps():
    """File name to the number of cases that fail for a known reason."""
    lines = GAPS.read_text().splitlines() if GAPS.exists() else []
    found = [GAP.fullmatch(line) or sys.exit(f"{GAPS}: not FILE COUNT REASON: {line}") for line in lines if line]
    return {gap["name"]: int(gap["count"]) for gap in found}


def run_script(binary, script):
    """Passed, failed and the complaints of one script; the counts are None when the binary gave none."""
    try:
        done = subprocess.run([binary, "test", "promql", str(script)], capture_output=True, text=True, timeout=FILE_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return None, None, f"no answer in {FILE_SECONDS_MAX} s"
    found = CLOSING.findall(done.stdout)
    passed, failed = (int(count) for count in found[-1]) if found else (None, None)
    if not found or done.returncode != (1 if failed else 0):
        return None, None, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return passed, failed, done.stdout


def main():
    folder = os.environ.get("PHAROS_CONFORMANCE")
    scripts = sorted(pathlib.Path(folder, "promqltest").glob("*.test")) if folder else []
    if not scripts:
        sys.exit("PHAROS_CONFORMANCE names no folder with promqltest/*.test")
    binary = os.environ.get("PHAROS_BIN") or sys.exit("PHAROS_BIN is not set")
    gaps, total_passed, total_failed = known_gaps(), 0, 0
    for script in scripts:
        passed, failed, output = run_script(binary, script)
        known = gaps.pop(script.name, 0)
        if failed == known:
            print(f"{script.name:<34}{passed:>6}" + (f"   ({known} known gaps)" if known else ""))
            total_passed += passed
            continue
        told = "did not run" if failed is None else f"{failed} cases fail, {known} are known to"
        print(f"{script.name}: {told}\n{textwrap.indent(output.strip()[-4000:], '  ')}")
        total_passed += passed or 0
        total_failed += failed or 1
    for name in gaps:
        print(f"{GAPS.name} lists {name}, which is not there")
        total_failed += 1
    print(f"conformance: {total_passed} passed, {total_failed} failed", flush=True)
    sys.exit(1 if total_failed else 0)


if __name__ == "__main__":
    main()
