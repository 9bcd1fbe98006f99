"""What a federation costs: bytes on the wire, 64 sites of which a tenth fails, and a whole trial.

- *wire*: an adapter round's messages as Flower serialises them, both ways, for nano's LoRA and one
  of PixCell-256's shapes; and what passes a relay before the hub's TLS front in a deployed round.
  Beside the size of the adapter's own file: within 10 %.
- *failing*: 64 sites of Flower's simulation, 20 exchanges of an adapter round with DP-SGD; in each
  a tenth is killed, raises or loses its answer, at a random stage. Every exchange ends; the mean is
  that of the sites that answered, by numpy; every ledger is charged once; memory stays flat.
- *whole*: `pixcell-hub simulate --sites 2 --adapter 3`, as typed: under 5 minutes on 2 cores.

    OMP_NUM_THREADS=1 python benchmarks/federation_load.py [wire] [failing] [whole] [--work FOLDER]

Writes benchmarks/results/federation_load_<machine>.json; sections that are not run are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from _results import RESULTS, write_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pixcell_share.federation.environment import prepare, settle

GOAL_WIRE, GOAL_WHOLE_S, GOAL_MIB = 1.10, 300, 0.5
"""Bytes over the adapter's file; seconds; growth of the hub's memory in an exchange."""
WARM_UP = 5
PACKAGES = ("flwr", "ray", "torch", "opacus", "safetensors", "numpy")


def wire(folder: Path) -> dict[str, Any]:
    """Bytes, serialised and on a socket."""
    from _federation_wire import on_socket, serialised

    found: dict[str, Any] = {"serialised": serialised(folder), "socket": on_socket(folder)}
    sizes = found["serialised"].values()
    found["full-256_on_socket_reckoned"] = _reckoned(found)
    found["holds_serialised"] = all(max(s["over_file"].values()) <= GOAL_WIRE for s in sizes)
    found["holds_on_socket"] = max(found["socket"]["over_file"].values()) <= GOAL_WIRE
    return found


def _reckoned(found: dict[str, Any]) -> dict[str, float]:
    """Of the large adapter: TLS and HTTP cost it as much as nano's, being one object, too."""
    nano, large = found["serialised"]["nano"], found["serialised"]["full-256"]
    passed = found["socket"]["bytes_of_an_exchange"]
    return {
        way: round(
            (passed[way] + large[name]["bytes"] - nano[name]["bytes"])
            / large["adapter_file_bytes"],
            4,
        )
        for way, name in (("up", "to_hub"), ("down", "to_site"))
    }


def failing(folder: Path) -> dict[str, Any]:
    """64 sites, and what became of their answers."""
    from _failing_checks import check, ways
    from _failing_federation import Federation, LoadSettings, draw_plan
    from _process_watch import slope

    settings = LoadSettings()
    plan = draw_plan(settings)
    federation = Federation(folder, settings)
    began = time.monotonic()
    round_folder, watch, moments = federation.train(plan)
    memory = {role: watch.medians(role, moments) for role in watch.roles}
    growth = {role: slope(values, WARM_UP) for role, values in memory.items()}
    seconds = [round(end - begin, 1) for begin, end in pairwise(moments)]
    return {
        "sites": settings.sites,
        "failures": ways(plan),
        **check(federation, plan, round_folder),
        "seconds": round(time.monotonic() - began),
        "seconds_of_an_exchange": {"each": seconds, "median": statistics.median(seconds)},
        "memory_mib": memory,
        "growth_mib_per_exchange": growth,
        "holds": growth["server_app"] + growth["superlink"] <= GOAL_MIB,
    }


def whole(folder: Path) -> dict[str, Any]:
    """A trial of a federation, as typed."""
    from _process_watch import ProcessWatch

    hub = Path(sys.executable).parent / "pixcell-hub"
    words = [hub, "simulate", "--sites", "2", "--adapter", "3", "--out", folder / "trial", "--json"]
    began = time.monotonic()
    with ProcessWatch({"all": ""}) as watch:
        done = subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - began
    rounds = json.loads(done.stdout.splitlines()[-1])["rounds"]
    return {
        "command": "pixcell-hub simulate --sites 2 --adapter 3",
        "seconds": round(seconds, 1),
        "processor_s": round(watch.processor_s, 1),
        "rounds": [
            {
                "kind": each["kind"],
                "state": each["state"],
                "outcomes": {said["site"]: said["outcome"] for said in each["answers"]},
            }
            for each in rounds
        ],
        "holds": seconds <= GOAL_WHOLE_S,
    }


SECTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "wire": wire,
    "failing": failing,
    "whole": whole,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), metavar="SECTION",
                        help="wire, failing or whole; default: all")  # fmt: skip
    parser.add_argument("--work", type=Path, help="where hubs and sites lie meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name).resolve()
        settle(prepare(folder / "flower"))
        for section in options.sections:
            own = folder / section
            own.mkdir()
            load = round(os.getloadavg()[0], 2)
            found = {**SECTIONS[section](own), "load_average_1min": load}
            print(section, json.dumps(found, indent=2), flush=True)
            print(write_result("federation_load", {**_before(), section: found}, PACKAGES))


def _before() -> dict[str, Any]:
    """Sections of an earlier run."""
    for path in RESULTS.glob("federation_load_*.json"):
        kept = json.loads(path.read_text())
        return {section: kept[section] for section in SECTIONS if section in kept}
    return {}


if __name__ == "__main__":
    main()
