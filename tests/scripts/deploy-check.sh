#!/usr/bin/env bash
# What can be checked of deploy/ and of the scripts without running them as a service.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# systemd refuses a unit whose program is not there; the name is all that is changed.
sed 's#^ExecStart=/usr/local/bin/pharos#ExecStart=/bin/true#' deploy/systemd/pharos.service >"$folder/pharos.service"
complaints=$(systemd-analyze verify "$folder/pharos.service" 2>&1) || true
if [ -n "$complaints" ]; then
  printf 'deploy/systemd/pharos.service:\n%s\n' "$complaints" >&2
  exit 1
fi
systemd-analyze security --offline=true --threshold=20 "$folder/pharos.service" | tail -n 1

for script in .ci/run deploy/build/cargo tests/scripts/*.sh; do bash -n "$script"; done
python3 - deploy/build/*.py tests/scripts/*.py benches/compare.py <<'PY'
import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding="utf-8").read(), name)
PY
echo "deploy: unit and scripts are sound"
