#!/usr/bin/env python3
"""Holds what we link against deny.toml, without the network: licences, sources, bans, duplicates, wildcards, yanked versions.

usage: dependencies.py [--list-duplicates]

The rules are those of `cargo deny check licenses sources bans`, read from the same file, over `cargo metadata --locked`; a crate that only
builds or tests use counts as well, but for duplicates. What is yanked is known from the registry's index as it was when cargo last asked it.
Advisories are not looked at: their database is not here. An entry of `skip` or `deny` that fits nothing any more is a fault, too.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
INDEX = pathlib.Path.home() / ".cargo/registry/index"


def metadata(target):
    """Packages of the workspace and everything below it on one target, by id, and the edges between them."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target, "--features", "pharos/jemalloc"]
    # What another target alone needs may not have been downloaded yet.
    for more in (["--offline"], []):
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            break
    if done.returncode != 0:
        sys.exit(f"dependencies: cargo metadata: {done.stderr.strip()}")
    known = json.loads(done.stdout)
    edges = {node["id"]: node["deps"] for node in known["resolve"]["nodes"]}
    return {package["id"]: package for package in known["packages"]}, edges, set(known["workspace_members"])


def linked(edges, members):
    """Everything that a package of ours needs at run time or to be built; not what only tests need."""
    found, todo = set(members), list(members)
    while todo:
        for dep in edges[todo.pop()]:
            kinds = {kind["kind"] for kind in dep["dep_kinds"]}
            if dep["pkg"] not in found and kinds != {"dev"}:
                found.add(dep["pkg"])
                todo.append(dep["pkg"])
    return found


def licence_fits(expression, allowed):
    """Whether an SPDX expression can be met with allowed licences."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    place = 0

    def either():
        nonlocal place
        met = both()
        while place < len(tokens) and tokens[place] == "OR":
            place += 1
            met = both() or met
        return met

    def both():
        nonlocal place
        met = one()
        while place < len(tokens) and tokens[place] == "AND":
            place += 1
            met = one() and met
        return met

    def one():
        nonlocal place
        token = tokens[place]
        place += 1
        if token == "(":
            met = either()
            place += 1
            return met
        if place < len(tokens) and tokens[place] == "WITH":
            token = f"{token} WITH {tokens[place + 1]}"
            place += 2
        return token in allowed

    return either()


def spec_fits(spec, package):
    """Whether `name` or `name@version` of deny.toml is this package."""
    name, _, version = spec.partition("@")
    return name == package["name"] and version.lstrip("=") in ("", package["version"])


def yanked(package):
    """Whether the index as it is kept here says that this version was withdrawn; None if it does not know the version."""
    name = package["name"].lower()
    folder = {1: "1", 2: "2", 3: f"3/{name[0]}"}.get(len(name), f"{name[:2]}/{name[2:4]}")
    for file in INDEX.glob(f"*/.cache/{folder}/{name}"):
        for part in file.read_bytes().split(b"\0"):
            if part.startswith(b"{"):
                entry = json.loads(part)
                if entry["vers"] == package["version"]:
                    return bool(entry.get("yanked"))
    return None


def duplicates(packages):
    """Names that are there in several versions, with these versions."""
    versions = {}
    for package in packages:
        versions.setdefault(package["name"], {})[package["version"]] = package
    return {name: list(found.values()) for name, found in versions.items() if len(found) > 1}


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed, bans = set(rules["licenses"]["allow"]), rules["bans"]
    faults, packages, used = [], {}, set()
    twice = {}
    for target in rules["graph"]["targets"]:
        all_packages, edges, members = metadata(target)
        packages.update(all_packages)
        for name, found in duplicates(all_packages[known] for known in linked(edges, members)).items():
            for package in found:
                twice.setdefault(name, {})[package["version"]] = package
    if "--list-duplicates" in sys.argv[1:]:
        for name, found in sorted(twice.items()):
            print(name, *sorted(found))
    for package in packages.values():
        what = f"{package['name']} {package['version']}"
        for rule in bans["deny"]:
            if spec_fits(rule["crate"], package):
                faults.append(f"{what} is banned: {rule['reason']}")
        if package["source"] is None:
            for dep in package["dependencies"]:
                if dep["req"] == "*" and dep.get("path") is None and bans["wildcards"] == "deny":
                    faults.append(f"{what} takes any version of {dep['name']}")
            continue
        if package["source"] != CRATES_IO:
            faults.append(f"{what} comes from {package['source']}")
        if not package["license"]:
            faults.append(f"{what} names no licence")
        elif not licence_fits(package["license"], allowed):
            faults.append(f"{what} is under {package['license']}, which deny.toml does not allow")
        if yanked(package) and rules["advisories"]["yanked"] == "deny":
            faults.append(f"{what} was yanked")
    for name, found in sorted(twice.items()):
        left = []
        for package in found.values():
            skipped = [at for at, skip in enumerate(bans.get("skip", [])) if spec_fits(skip["crate"], package)]
            used.update(skipped)
            left += [] if skipped else [package["version"]]
        if len(left) > 1 and bans["multiple-versions"] == "deny":
            faults.append(f"{name} is there in versions {', '.join(sorted(left))}: give one a reason under [bans] skip")
    for at, skip in enumerate(bans.get("skip", [])):
        if at not in used:
            faults.append(f"[bans] skip: {skip['crate']} is not there twice any more")
        if not skip.get("reason"):
            faults.append(f"[bans] skip: {skip['crate']} has no reason")
    for fault in faults:
        print(f"dependencies: {fault}", file=sys.stderr)
    unknown = sum(1 for package in packages.values() if package["source"] and yanked(package) is None)
    print(f"{len(packages)} packages, {len(twice)} in several versions, {unknown} not in the index kept here: {'refused' if faults else 'ok'}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
