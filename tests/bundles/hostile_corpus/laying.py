"""Lay out one bundle of the corpus, as anybody may to try a verifier of their own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parents[2] / "assets" / "hostile_bundles"
CASES = "cases.json"
GOOD = "good"


def read_cases(corpus: Path = CORPUS) -> list[dict[str, Any]]:
    """All cases, as `cases.json` has them."""
    cases: list[dict[str, Any]] = json.loads((corpus / CASES).read_text())["cases"]
    return cases


def lay_out(case: dict[str, Any], target: Path, corpus: Path = CORPUS) -> Path:
    """The good bundle with the files of the case laid over it, then the steps of the case."""
    shutil.copytree(corpus / GOOD, target)
    for name in case["without"]:
        (target / name).unlink()
    if (corpus / case["name"]).is_dir():
        shutil.copytree(corpus / case["name"], target, dirs_exist_ok=True)
    for step in case["steps"]:
        _do(target / step["name"], step)
    return target


def _do(path: Path, step: dict[str, Any]) -> None:
    path.unlink(missing_ok=True)
    if step["do"] == "symlink":
        path.symlink_to(step["to"])
    elif step["do"] == "fifo":
        os.mkfifo(path)
    elif step["do"] == "folder":
        path.mkdir()
    elif step["do"] == "file":
        path.write_bytes(b"extra")
    elif step["do"] == "spaces":
        path.write_bytes(b" " * step["size"])
    elif step["do"] == "sparse":
        with path.open("wb") as file:
            file.truncate(step["size"])
    else:
        raise ValueError(f"the corpus has an unknown step: {step['do']}")
