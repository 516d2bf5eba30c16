#!/usr/bin/env python3
"""Runs upstream Prometheus' promqltest scripts against the release binary and holds the score.

The scripts are not part of this repository; PHAROS_CONFORMANCE names the folder that has `promqltest/*.test`. CI demands it.
`tests/data/conformance-gaps.txt` lists, per file, how many cases are known to fail; more than that is an error, and so is a
file that the binary cannot run. A file not listed must pass whole. `--update` rewrites the list from what was measured: use
it when the score rises.
"""

import os
import pathlib
import re
import subprocess
import sys
import textwrap

GAPS = pathlib.Path(__file__).resolve().parent.parent / "data" / "conformance-gaps.txt"
HEADER = "# Cases of upstream's promqltest scripts that fail today: file, count. Written by tests/scripts/conformance.py --update.\n"
CLOSING = re.compile(r"(\d+) passed, (\d+) failed")
FILE_SECONDS_MAX = 120


def known_gaps():
    """File name to the number of cases that may fail."""
    if not GAPS.exists():
        return {}
    lines = (line.split("#")[0].split() for line in GAPS.read_text().splitlines())
    return {fields[0]: int(fields[1]) for fields in lines if fields}


def run_script(binary, script):
    """Passed, failed and the complaint of one script; counts are None when the binary gave none."""
    try:
        done = subprocess.run([binary, "test", "promql", str(script)], capture_output=True, text=True, timeout=FILE_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return None, None, f"no answer in {FILE_SECONDS_MAX} s"
    found = CLOSING.findall(done.stdout)
    if not found:
        return None, None, (done.stderr or done.stdout).strip()[-2000:] or f"exit code {done.returncode}"
    passed, failed = (int(n) for n in found[-1])
    if done.returncode not in (0, 1) or (done.returncode == 0) != (failed == 0):
        return None, None, f"exit code {done.returncode} with {failed} failed: {done.stderr.strip()[-2000:]}"
    return passed, failed, done.stdout


def main():
    folder = os.environ.get("PHAROS_CONFORMANCE")
    scripts = sorted(pathlib.Path(folder, "promqltest").glob("*.test")) if folder else []
    if not scripts:
        print("PHAROS_CONFORMANCE names no folder with promqltest/*.test", file=sys.stderr)
        sys.exit(1)
    binary = os.environ.get("PHAROS_BIN") or sys.exit("PHAROS_BIN is not set")
    gaps, measured, cases, passing, worse = known_gaps(), {}, 0, 0, []
    for script in scripts:
        passed, failed, output = run_script(binary, script)
        if passed is None:
            worse.append(f"{script.name}: did not run\n{textwrap.indent(output, '  ')}")
            continue
        allowed = gaps.get(script.name, 0)
        print(f"{script.name:<34}{passed:>6} of {passed + failed}" + (f"   (known gaps: {allowed})" if allowed else ""))
        measured[script.name] = failed
        cases, passing = cases + passed + failed, passing + passed
        if failed > allowed:
            worse.append(f"{script.name}: {failed} cases fail, {allowed} are known to\n{textwrap.indent(output.strip()[-4000:], '  ')}")
    print(f"upstream cases that pass: {passing} of {cases}")
    if "--update" in sys.argv[1:]:
        GAPS.write_text(HEADER + "".join(f"{name} {count}\n" for name, count in sorted(measured.items()) if count))
        print(f"wrote {GAPS}")
    elif any(failed < gaps.get(name, 0) for name, failed in measured.items()):
        print("fewer fail than listed: raise the bar with tests/scripts/conformance.py --update")
    for complaint in worse:
        print(complaint, file=sys.stderr)
    print(f"conformance: {passing} passed, {len(worse)} failed", flush=True)
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
