"""Write the corpus: ``python -m tests.bundles.hostile_corpus [FOLDER]``."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py

from tests.bundles.hostile_corpus import files, pictures, shards, signatures, statements
from tests.bundles.hostile_corpus.case import Case
from tests.bundles.hostile_corpus.good import write_good
from tests.bundles.hostile_corpus.keys import make_key, write_keys
from tests.bundles.hostile_corpus.laying import CASES, CORPUS, GOOD


def all_cases() -> list[Case]:
    """Every case of the corpus, by name."""
    rooms = (files, pictures, shards, signatures, statements)
    return sorted((case for room in rooms for case in room.cases()), key=lambda case: case.name)


def write_corpus(folder: Path) -> None:
    """Write keys, the good bundle, what each case changes of it, and the list of cases."""
    write_keys(folder / "keys")
    write_good(folder / GOOD, make_key("member"))
    listed = [_write_case(folder, case) for case in all_cases()]
    made_with = {"h5py": h5py.version.version, "hdf5": h5py.version.hdf5_version}
    document = {"made_with": made_with, "cases": listed}
    (folder / CASES).write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")


def _write_case(folder: Path, case: Case) -> dict[str, Any]:
    good = {path.name: path.read_bytes() for path in (folder / GOOD).iterdir()}
    with tempfile.TemporaryDirectory() as work:
        bundle = Path(work) / "bundle"
        shutil.copytree(folder / GOOD, bundle)
        case.spoil(bundle, make_key("member"))
        spoiled = {path.name: path.read_bytes() for path in bundle.iterdir()}
    for name, data in spoiled.items():
        if data != good.get(name):
            (folder / case.name).mkdir(exist_ok=True)
            (folder / case.name / name).write_bytes(data)
    return {
        "name": case.name,
        "reason": str(case.reason),
        "about": case.about,
        "says": case.says,
        "signer": case.signer,
        "sender": case.sender,
        "before": list(case.before),
        "without": sorted(good.keys() - spoiled.keys()),
        "steps": list(case.steps),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS
    for old in target.iterdir() if target.is_dir() else ():
        if old.is_dir():
            shutil.rmtree(old)
    write_corpus(target)
