#!/usr/bin/env python3
"""Builds the RocksDB that the crate `librocksdb-sys` ships, once, as a static library that every cargo profile links.

usage: rocksdb-static.py MANIFEST_DIR [--cache DIR] [--jobs N]        prints the folder for ROCKSDB_LIB_DIR

The 342 source files are packed by folder into about 33 translation units that only #include them: 532 CPU seconds
instead of ~1900 for each profile. The result is kept under a key of crate versions, compiler and flags, so that a new
compiler or crate makes a new folder and never a wrong one. Several builds at once are safe: each works in a folder of
its own, and the first to finish is kept.
    export ROCKSDB_LIB_DIR=$(deploy/build/rocksdb-static.py .) ROCKSDB_STATIC=1
`deploy/build/cargo` does that and runs cargo. Without these variables cargo builds RocksDB itself, slowly but with the
same outcome. The defines follow the crate's build.rs (features zstd and lz4, Linux); `pharos-tracestore` has the test
that writes and reads zstd blocks, and fails when they drift.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

DEFINES = (
    "NDEBUG=1 HAVE_ALIGNED_NEW HAVE_UINT128_EXTENSION ZSTD=1 LZ4=1 OS_LINUX ROCKSDB_PLATFORM_POSIX ROCKSDB_LIB_IO_POSIX "
    "ROCKSDB_SCHED_GETCPU_PRESENT ROCKSDB_AUXV_GETAUXVAL_PRESENT ROCKSDB_FALLOCATE_PRESENT ROCKSDB_RANGESYNC_PRESENT "
    "ROCKSDB_SUPPORT_THREAD_LOCAL ROCKSDB_PTHREAD_ADAPTIVE_MUTEX ROCKSDB_MALLOC_USABLE_SIZE"
).split()
FLAGS = "-O2 -ffunction-sections -fdata-sections -fPIC -std=c++20 -w -include cstdint".split()
# Source bytes in one translation unit: larger ones need more than 1.1 GB of memory to compile, smaller ones cost more CPU.
UNIT_BYTES = 420_000
PACKAGES = {"librocksdb-sys", "zstd-sys", "lz4-sys"}


def package_dirs(manifest_dir):
    """Version and source folder of each of PACKAGES, as locked."""
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", f"{manifest_dir}/Cargo.toml"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("rocksdb: cargo metadata failed, see above")
    packages = json.loads(done.stdout)["packages"]
    found = {p["name"]: (p["version"], pathlib.Path(p["manifest_path"]).parent) for p in packages if p["name"] in PACKAGES}
    missing = PACKAGES - found.keys()
    if missing:
        sys.exit(f"rocksdb: not among the dependencies of {manifest_dir}: {', '.join(sorted(missing))}")
    return found


def cache_key(found, compiler):
    """Sixteen hex digits that change with anything that changes the library."""
    try:
        about = subprocess.run([compiler, "-v"], check=True, capture_output=True, text=True).stderr
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"rocksdb: the C++ compiler {compiler} does not run ({error}); install g++ or set CXX")
    versions = {name: version for name, (version, _) in sorted(found.items())}
    parts = json.dumps([versions, about, FLAGS, DEFINES, UNIT_BYTES])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def units(root):
    """Lists of source files, each list one translation unit; files of different folders never share one."""
    files = [line.strip() for line in (root / "rocksdb_lib_sources.txt").read_text().splitlines() if line.strip()]
    files = sorted(f if f.startswith("rocksdb/") else f"rocksdb/{f}" for f in files if "build_version" not in f)
    group, size, folder = [], 0, None
    for name in (f for f in files if (root / f).exists()):
        here, length = name.split("/")[:2], (root / name).stat().st_size
        if group and (size + length > UNIT_BYTES or here != folder):
            yield group
            group, size = [], 0
        group.append(name)
        size, folder = size + length, here
    if group:
        yield group


def build_library(found, compiler, jobs, build):
    """Compiles everything inside the folder `build` and leaves `librocksdb.a` there, alone in `build/out`."""
    root = found["librocksdb-sys"][1]
    includes = [
        root / "rocksdb/include",
        root / "rocksdb",
        root / "rocksdb/third-party/gtest-1.8.1/fused-src",
        root,
        found["zstd-sys"][1] / "zstd/lib",
        found["lz4-sys"][1] / "liblz4/lib",
    ]
    base = [compiler, *FLAGS, *(f"-D{d}" for d in DEFINES), *(f"-I{i}" for i in includes)]
    sources = []
    for number, group in enumerate(units(root)):
        unit = build / f"unit{number}.cc"
        unit.write_text("".join(f'#include "{root / f}"\n' for f in group))
        sources.append(unit)
    sources.append(root / "build_version.cc")

    def compile_one(source):
        target = build / (source.stem + ".o")
        done = subprocess.run([*base, "-c", str(source), "-o", str(target)], capture_output=True, text=True)
        print(f"rocksdb: {source.name} (of {len(sources)})", file=sys.stderr, flush=True)
        return target, done

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(compile_one, sources))
    failed = [done.stderr[:2000] for _, done in results if done.returncode]
    if failed:
        sys.exit("\n".join(failed))
    (build / "out").mkdir()
    subprocess.run(["ar", "rcs", str(build / "out/librocksdb.a"), *(str(t) for t, _ in results)], check=True)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("manifest_dir")
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    args.add_argument("--cache", default=os.path.join(cache_home, "pharos", "rocksdb"))
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    args = args.parse_args()

    found = package_dirs(args.manifest_dir)
    compiler = os.environ.get("CXX", "g++")
    out = pathlib.Path(args.cache) / cache_key(found, compiler)
    if not (out / "librocksdb.a").exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=out.parent) as build:
            build = pathlib.Path(build)
            build_library(found, compiler, args.jobs, build)
            try:
                os.rename(build / "out", out)
            except OSError:
                # Another build finished first; its library came from the same key.
                if not (out / "librocksdb.a").exists():
                    raise
    print(out)


if __name__ == "__main__":
    main()
