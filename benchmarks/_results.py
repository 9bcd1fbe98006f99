"""Write a benchmark's result beside the machine and the versions that it ran on."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("numpy", "pillow", "openslide-python", "openslide-bin", "simplejpeg", "tifffile")


def write_result(name: str, result: dict[str, Any], packages: Sequence[str] = _PACKAGES) -> Path:
    """Write ``results/<name>_<machine>.json``; returns its path.

    Args:
        name: of the benchmark.
        result: its figures.
        packages: whose versions matter to it.
    """
    cpu = _cpu_name()
    slug = re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")
    document = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cpu": cpu,
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "load_average_1min": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
        **result,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}_{slug}-{os.cpu_count()}cores.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
