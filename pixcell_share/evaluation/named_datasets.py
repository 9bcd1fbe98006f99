"""The public data sets of Thunder that classify tiles, by name.

Nothing is downloaded: most need an account or a form. They are used where they lie as Thunder
(thunder-bench 0.2.2) lays them: ``BASE/datasets/NAME`` beside
``BASE/datasets/data_splits/NAME.json``,
which ``thunder.download_datasets`` and ``thunder.generate_splits`` make.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.evaluation.embedded import PARTS
from pixcell_share.evaluation.images import ImageDataset
from pixcell_share.evaluation.thunder_split import read_thunder_split

BASE_VARIABLE = "THUNDER_BASE_DATA_FOLDER"
"""Environment variable that names the folder, as in Thunder."""

SIZES: Mapping[str, tuple[int, int, int]] = {
    "bach": (218, 50, 132),
    "bracs": (3657, 312, 570),
    "break_his": (936, 196, 339),
    "ccrcc": (16797, 4298, 6074),
    "crc": (80000, 20000, 7180),
    "esca": (154438, 34704, 178187),
    "mhist": (1743, 432, 977),
    "patch_camelyon": (262144, 32768, 32768),
    "tcga_crc_msi": (14762, 4795, 32361),
    "tcga_tils": (209221, 38601, 56275),
    "tcga_uniform": (170840, 44670, 56200),
    "wilds": (302436, 34904, 85054),
}
"""Tiles to train, to validate and to test on."""

PAPER_DATASETS = tuple(name for name in SIZES if not name.startswith("tcga_"))
"""The nine without TCGA, on whose slides PixCell was trained.

That these are the paper's nine (arXiv:2506.05127, table 1) is inferred from their number.
"""


def read_named_dataset(name: str, base: Path | None = None) -> ImageDataset:
    """A public data set that the user has.

    Args:
        name: one of `SIZES`.
        base: Thunder's base folder; None: the variable `BASE_VARIABLE`.

    Raises:
        SettingsError: no such data set, or no base folder was named.
        DataError: it is not there, or its parts do not have the sizes that Thunder's have.
    """
    if name not in SIZES:
        raise SettingsError(f"there is no data set {name!r}", f"choose one of {', '.join(SIZES)}")
    datasets = _base(base) / "datasets"
    split, folder = datasets / "data_splits" / f"{name}.json", datasets / name
    if not split.is_file() or not folder.is_dir():
        raise DataError(
            f"{name} is not on this machine: {folder} and {split} are looked for",
            f"lay it there as Thunder does (thunder.download_datasets, thunder.generate_splits), "
            f"or name another base folder with {BASE_VARIABLE}",
        )
    found = read_thunder_split(split, folder, name=name)
    sizes = tuple(len(getattr(found, part)) for part in PARTS)
    if sizes != SIZES[name]:
        raise DataError(
            f"{name} has {sizes} tiles to train, validate and test on, not {SIZES[name]}",
            "make its splits again with Thunder, or read it as a folder of another name",
        )
    return found


def _base(base: Path | None) -> Path:
    named = base or os.environ.get(BASE_VARIABLE)
    if not named:
        raise SettingsError("no folder of data sets was named", f"give it, or set {BASE_VARIABLE}")
    return Path(named).expanduser()
