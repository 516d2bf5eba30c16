"""Sends traces and metrics to Pharos with the OpenTelemetry SDK for Python.

    python example.py                          a small shop: twenty orders as traces and metrics
    python example.py --emit-reference FILE    everything the SDK can express, once; FILE says what was sent

README.md in this folder says how to run it and what will be seen.
"""

import argparse
import logging
import sys
from pathlib import Path

import conformance
import shop
import telemetry


def main() -> int:
    """Runs one of the two programs; 1 if telemetry was lost."""
    arguments = argparse.ArgumentParser(description="Sends traces and metrics to Pharos.")
    arguments.add_argument("--orders", type=int, default=20, help="orders to place before leaving")
    arguments.add_argument("--emit-reference", type=Path, metavar="FILE", help="send the reference workload, write what was sent")
    chosen = arguments.parse_args()

    logging.basicConfig(level=logging.ERROR, format="telemetry: %(message)s")
    lost = telemetry.LostTelemetry()
    if chosen.emit_reference:
        conformance.run(chosen.emit_reference, lost)
    else:
        shop.run(chosen.orders)
    return 1 if lost.happened else 0


if __name__ == "__main__":
    sys.exit(main())
