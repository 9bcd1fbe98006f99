"""Which form should tiles be kept in? Size, and rates of writing, verifying and random reading.

The synthetic tiles of the demo's bundle (`make demo`), of 256 px, eight times over as a larger
cohort would be read. Each form holds the same tiles, and all give back the same pixels:

- `hdf5`: one contiguous dataset, as `write_bundle` writes shards;
- `npy`: a plain array, as the hub keeps what it accepted;
- `hdf5_deflate`: a chunk for each tile, shuffle and deflate 4;
- `webp`: lossless WebP (method 0, by imagecodecs) one after another, and offsets beside them.

Writing includes fsync; verifying is SHA-256 of the file and unpacking every tile; random reads are
of single tiles from a mapped or open file that the system has cached. Turn by turn, medians over
the rounds, one process.

    python benchmarks/bundle_codec.py [--bundle demo/run/bundle] [--rounds 5]

Writes benchmarks/results/bundle_codec_<machine>.json.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
from _results import write_result
from numpy.typing import NDArray

TILE_PX = 256
REPEATS = 8
READS = 400
Tiles = NDArray[np.uint8]
Read = Callable[[int], Tiles]


class Form(ABC):
    """A way to keep tiles in one file, or two."""

    name: str

    @abstractmethod
    def write(self, path: Path, tiles: Tiles) -> None:
        """Write all tiles (N, H, W, 3)."""

    @abstractmethod
    def opened(self, path: Path) -> Any:
        """A context that gives a function from a place to the tile there."""


class Hdf5(Form):
    """HDF5, contiguous."""

    name = "hdf5"
    settings: dict[str, Any] = {}  # noqa: RUF012

    def write(self, path: Path, tiles: Tiles) -> None:
        """See `Form`."""
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=tiles, **self.settings)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Read]:
        """See `Form`."""
        with h5py.File(path) as file:
            images = file["images"]
            yield lambda place: images[place]


class Hdf5Deflate(Hdf5):
    """HDF5 in chunks of one tile, as other writers of shards may do."""

    name = "hdf5_deflate"
    settings = {  # noqa: RUF012
        "chunks": (1, TILE_PX, TILE_PX, 3),
        "compression": "gzip",
        "compression_opts": 4,
        "shuffle": True,
    }


class Npy(Form):
    """A plain array."""

    name = "npy"

    def write(self, path: Path, tiles: Tiles) -> None:
        """See `Form`."""
        with path.open("wb") as file:
            np.save(file, tiles)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Read]:
        """See `Form`."""
        images = np.load(path, mmap_mode="r")
        yield lambda place: np.array(images[place])


class WebP(Form):
    """Lossless WebP bytes with offsets."""

    name = "webp"

    def write(self, path: Path, tiles: Tiles) -> None:
        """See `Form`."""
        offsets = [0]
        with path.open("wb") as file:
            for tile in tiles:
                data = imagecodecs.webp_encode(tile, lossless=True, method=0)
                offsets.append(offsets[-1] + file.write(data))
        np.save(path.with_suffix(".offsets.npy"), np.array(offsets))

    @contextmanager
    def opened(self, path: Path) -> Iterator[Read]:
        """See `Form`."""
        offsets = np.load(path.with_suffix(".offsets.npy"))
        data = np.memmap(path, np.uint8, "r")
        yield lambda place: imagecodecs.webp_decode(data[offsets[place] : offsets[place + 1]])


FORMS: tuple[Form, ...] = (Hdf5(), Npy(), Hdf5Deflate(), WebP())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("demo/run/bundle"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tiles = np.concatenate([tiles_of(options.bundle)] * REPEATS)
    rows: dict[str, list[dict[str, float]]] = {form.name: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as work:
        for round_number in range(options.rounds):
            for form in FORMS:
                rows[form.name].append(measure(form, Path(work), tiles, round_number))
    table = {
        name: {key: round(statistics.median(row[key] for row in found), 3) for key in found[0]}
        for name, found in rows.items()
    }
    for name, row in table.items():
        print(f"{name:14}", row)
    result = {"tiles": len(tiles), "tile_px": TILE_PX, "rounds": options.rounds, "forms": table}
    print(write_result("bundle_codec", result, ("h5py", "imagecodecs", "numpy")))


def measure(form: Form, work: Path, tiles: Tiles, seed: int) -> dict[str, float]:
    """One turn of one form; rates in MiB of pixels or in tiles per second."""
    for old in work.iterdir():
        old.unlink()
    path, mib = work / f"{form.name}.bin", tiles.nbytes / 2**20
    start = time.perf_counter()
    form.write(path, tiles)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    written = time.perf_counter()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    with form.opened(path) as read:
        same = all(np.array_equal(read(i), tile) for i, tile in enumerate(tiles))
    verified = time.perf_counter()
    places = np.random.default_rng(seed).integers(0, len(tiles), READS)
    with form.opened(path) as read:
        begun = time.perf_counter()
        for place in places:
            read(int(place))
        ended = time.perf_counter()
    if not same:
        raise SystemExit(f"{form.name} changed the pixels")
    return {
        "size_share": sum(file.stat().st_size for file in work.iterdir()) / tiles.nbytes,
        "write_mib_per_s": mib / (written - start),
        "verify_mib_per_s": mib / (verified - written),
        "random_tiles_per_s": READS / (ended - begun),
    }


def tiles_of(bundle: Path) -> Tiles:
    """uint8 (N, 256, 256, 3): all tiles of a bundle."""
    images = []
    for path in sorted(bundle.glob("shard-*.h5")):
        with h5py.File(path) as file:
            images.append(file["images"][:])
    return np.concatenate(images)


if __name__ == "__main__":
    main()
