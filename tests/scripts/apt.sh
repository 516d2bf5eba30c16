#!/usr/bin/env bash
# Functions for the install scripts: asks Debian for packages, and only for those that are missing.
#
# Owns the one way this repository calls apt. It never upgrades what is there, never asks a question, and leaves no
# service running: packages such as prometheus and nginx start their daemon when they are installed, on the ports that the
# tests need. Sourced, not run.

# Runs a command as root: directly where we are root, else through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    echo "needs root and there is no sudo; as root, run: $*" >&2
    return 1
  fi
}

# Installs the given packages without starting their services, now or at the next boot.
#
# A policy-rc.d that answers 101 keeps maintainer scripts from starting daemons; where the machine has one of its own it is
# left alone. `disable` afterwards touches only the services that this call brought. A subshell, so that its trap cleans up
# however it ends.
apt_install() (
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "no apt-get on this machine; install by hand what these Debian packages hold: $*" >&2
    exit 1
  fi
  policy=/usr/sbin/policy-rc.d placed=no status=0
  options=(-o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 -qq)
  log=$(mktemp)
  trap 'if [ "$placed" = yes ]; then as_root rm -f "$policy"; fi; rm -f "$log"' EXIT
  before=$(ls /etc/init.d 2>/dev/null || true)
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" && placed=yes
  fi
  echo "installing Debian packages: $*"
  # The lists of a fresh machine are empty and those of an old one name versions that are gone: refresh when a first try
  # fails. A foreign repository that does not answer is no reason to stop; what is missing then shows at the second try.
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends "$@" >"$log" 2>&1; then
    as_root apt-get "${options[@]}" update >>"$log" 2>&1 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1 || status=$?
  fi
  after=$(ls /etc/init.d 2>/dev/null || true)
  for service in $(comm -13 <(sort <<<"$before") <(sort <<<"$after")); do
    as_root update-rc.d "$service" disable >/dev/null 2>&1 || true
  done
  [ "$status" -eq 0 ] || cat "$log" >&2
  exit "$status"
)
