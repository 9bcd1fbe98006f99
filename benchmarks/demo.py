"""How long `make demo` takes from a fresh clone: the install, then the run itself.

    python benchmarks/demo.py

Writes benchmarks/results/demo_<machine>.json. Limits: 10 minutes with the install, 3 for the run.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

from _results import write_result

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        install = seconds(["make", ".venv/.ready"], clone)
        run = seconds(["make", "demo"], clone)
        bench = subprocess.run(
            [clone / ".venv/bin/pixcell-site", "bench", "--json"],
            cwd=clone, check=True, capture_output=True, text=True,
        )  # fmt: skip
    result = {
        "install_seconds": install,
        "run_seconds": run,
        "total_seconds": install + run,
        "limits_seconds": {"total": 600, "run": 180},
        "bench": json.loads(bench.stdout),
    }
    print(json.dumps(result, indent=2))
    write_result("demo", result, ("torch", "diffusers", "numpy"))


def seconds(command: list[str], folder: Path) -> int:
    began = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - began)


if __name__ == "__main__":
    main()
