#!/usr/bin/env bash
# Fails when the bundle just built in ui/dist is not the one that git has: `cargo build` embeds what is committed.
# A staged bundle counts. Where the sources came without git (a tarball) there is nothing to compare with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || exit 0
if ! git diff --exit-code --stat -- ui/dist || [ -n "$(git ls-files --others --exclude-standard -- ui/dist)" ]; then
  echo "ui/dist is not what ui/ builds: commit the new bundle (git add ui/dist)" >&2
  exit 1
fi
