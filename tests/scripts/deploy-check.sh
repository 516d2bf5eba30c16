#!/usr/bin/env bash
# What can be checked of deploy/ and of the scripts without running them as a service.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# systemd refuses a unit whose program is not there; the name is all that is changed.
for unit in pharos.service pharos-backup.service pharos-backup.timer; do
  sed -E 's#^(ExecStart(Post)?)=/usr/local/bin/pharos#\1=/bin/true#' "deploy/systemd/$unit" >"$folder/$unit"
done
complaints=$(systemd-analyze verify "$folder"/pharos*.service "$folder/pharos-backup.timer" 2>&1) || true
if [ -n "$complaints" ]; then
  printf 'deploy/systemd:\n%s\n' "$complaints" >&2
  exit 1
fi
for unit in pharos.service pharos-backup.service; do
  systemd-analyze security --offline=true --threshold=20 "$folder/$unit" | tail -n 1
done

for script in .ci/run deploy/build/cargo tests/scripts/*.sh; do bash -n "$script"; done
python3 - deploy/build/*.py tests/scripts/*.py benches/compare.py <<'PY'
import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding="utf-8").read(), name)
PY
echo "deploy: units and scripts are sound"
