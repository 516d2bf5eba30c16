#!/usr/bin/env bash
# Installs what compiling Pharos needs beside Rust: a C and a C++ compiler (RocksDB, zstd, aws-lc), make (jemalloc), libclang
# (bindgen reads RocksDB's header with it) and Python 3 (the RocksDB script). Idempotent; asks apt only for what is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/scripts/apt.sh
. "$here/apt.sh"

# libclang.so or libclang-14.so, as bindgen looks for it; libclang-cpp.so is another library, and on many machines without this one.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null ||
    ldconfig -p 2>/dev/null | grep -Eq 'libclang(-[0-9.]+)?\.so'
}

wanted=()
command -v "${CC:-cc}" >/dev/null 2>&1 || wanted+=(gcc libc6-dev)
command -v "${CXX:-g++}" >/dev/null 2>&1 || wanted+=(g++)
command -v make >/dev/null 2>&1 || wanted+=(make)
command -v python3 >/dev/null 2>&1 || wanted+=(python3)
has_libclang || wanted+=(libclang-dev)
[ "${#wanted[@]}" -eq 0 ] || apt_install "${wanted[@]}"

if ! command -v cargo >/dev/null 2>&1; then
  echo "cargo is missing: install Rust with rustup (rust-toolchain.toml names the version), then run this again" >&2
  exit 1
fi
