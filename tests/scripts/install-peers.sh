#!/usr/bin/env bash
# Installs the real clients and servers that the end-to-end tests start themselves. Idempotent: without anything missing it
# takes a tenth of a second and needs neither root nor network.
#
#   tests/scripts/install-peers.sh            installs what is missing, then checks that every program answers
#   tests/scripts/install-peers.sh --check    installs nothing; exits 1 and names what is missing
#
# No service is left running or enabled. A peer that cannot be had is an error, never a skipped test.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/scripts/apt.sh
. "$here/apt.sh"

# program                    Debian package (Debian 12: vmagent, vmctl and vmalert are part of victoria-metrics)
peers="
vmagent                      victoria-metrics
victoria-metrics             victoria-metrics
prometheus                   prometheus
promtool                     prometheus
prometheus-node-exporter     prometheus-node-exporter
prometheus-alertmanager      prometheus-alertmanager
nginx                        nginx
chromium                     chromium
openssl                      openssl
curl                         curl
zstd                         zstd
systemd-analyze              systemd
"

# nginx and the Prometheus family live in sbin on some machines, which a user's PATH may lack.
export PATH="$PATH:/usr/sbin:/sbin"

absent_packages() {
  local program package
  while read -r program package; do
    [ -z "$program" ] || command -v "$program" >/dev/null 2>&1 || echo "$package"
  done <<<"$peers" | sort -u
}

mapfile -t wanted < <(absent_packages)
if [ "${#wanted[@]}" -gt 0 ]; then
  if [ "${1:-}" = --check ]; then
    echo "missing peers: ${wanted[*]} (run tests/scripts/install-peers.sh)" >&2
    exit 1
  fi
  apt_install "${wanted[@]}"
  mapfile -t wanted < <(absent_packages)
  if [ "${#wanted[@]}" -gt 0 ]; then
    echo "installed, but still without a program on PATH: ${wanted[*]}" >&2
    exit 1
  fi
fi
while read -r program package; do
  [ -z "$program" ] || printf '%-26s %s\n' "$program" "$(dpkg-query -W -f='${Version}' "$package" 2>/dev/null || echo 'not from Debian')"
done <<<"$peers"
