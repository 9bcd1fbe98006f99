"""How fast are latents and embeddings read for training: from a store, or from files per tile?

- the store: memory-mapped shards in `ShuffledOrder`, the cost of the order included.
- files: two ``.npy`` per tile (latents, embeddings), as PixCell's published code keeps them, with
  the same numbers; read in a random order that costs nothing.
- ``256``: regions of 256 px, (16, 32, 32) latents and one embedding of 1536.
- ``crops``: stage 256 from regions of 1024 px: the store reads the crop; of the files the whole
  (16, 128, 128) is read and cut, as the published code does.

Both give float16 batches of 64 in memory; the cache is warm; they take turns, one thread.

    python benchmarks/latent_reading.py [--megabytes 256] [--turns 7] [--folder FOLDER]

Writes benchmarks/results/latent_reading_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _results import write_result

from pixcell_share.training.latents import (
    IndexRow,
    LatentStore,
    ShuffledOrder,
    Source,
    StoreInfo,
    StoreWriter,
)

DIM, CHANNELS, BATCH = 1536, 16, 64
TARGET = 5.0


def describe(region_px: int, shard_rows: int) -> StoreInfo:
    """A store with the shapes of SD3.5's VAE and UNI2-h."""
    return StoreInfo(
        region_px=region_px, grid=region_px // 256, mpp=0.5, latent_channels=CHANNELS,
        latent_side=region_px // 8, embedding_dim=DIM, scaling_factor=1.5305,
        shift_factor=0.0609, vae={}, encoder={}, vae_source="random", encoder_source="random",
        encoder_weights=None, shard_rows=shard_rows,
    )  # fmt: skip


def make(folder: Path, region_px: int, megabytes: int) -> int:
    """The same random numbers as a store of four shards and as files; returns the rows."""
    info = describe(region_px, 1)
    rows = megabytes * 2**20 // info.row_bytes
    info = describe(region_px, -(-rows // 4))
    rng = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    with StoreWriter(folder / "store", info) as writer:
        for row in range(rows):
            latents = rng.standard_normal(info.latent_shape, np.float32).astype(np.float16)
            embeddings = rng.standard_normal(info.embedding_shape, np.float32).astype(np.float16)
            writer.add("train", latents, embeddings, IndexRow(str(row)))
            np.save(folder / "files" / f"{row}_sd3_vae.npy", latents)
            np.save(folder / "files" / f"{row}_uni.npy", embeddings)
        writer.finish()
    return rows


def batches(rows: int) -> Iterator[range]:
    """Positions of whole batches."""
    return (range(start, start + BATCH) for start in range(0, rows - BATCH + 1, BATCH))


def from_store(folder: Path, rows: int, crop: bool) -> Callable[[int], float]:
    """Rows a second of one epoch, by its number."""
    store = LatentStore.open(folder / "store")
    order = ShuffledOrder([Source(store)], seed=0, buffer=rows // 2)
    places = np.random.default_rng(1).integers(0, 4, (rows, 2))

    def run(epoch: int) -> float:
        start = time.perf_counter()
        for batch in batches(rows):
            at = np.array([order.locate(epoch * rows + position).row for position in batch])
            if crop:
                store.read_crops("train", at, places[batch.start : batch.stop], 1)
            else:
                store.read("train", at)
        return rows // BATCH * BATCH / (time.perf_counter() - start)

    return run


def from_files(folder: Path, rows: int, crop: bool) -> Callable[[int], float]:
    """The same from two files per row."""
    places = np.random.default_rng(1).integers(0, 4, (rows, 2))

    def row_of(number: int, place: Any) -> tuple[Any, Any]:
        latents = np.load(folder / "files" / f"{number}_sd3_vae.npy")
        embeddings = np.load(folder / "files" / f"{number}_uni.npy")
        if not crop:
            return latents, embeddings
        (top, left), (down, right) = place * 32, place
        return latents[:, top : top + 32, left : left + 32], embeddings[[4 * down + right]]

    def run(epoch: int) -> float:
        shuffled = np.random.default_rng(epoch).permutation(rows)
        start = time.perf_counter()
        for batch in batches(rows):
            pairs = [row_of(int(shuffled[position]), places[position]) for position in batch]
            np.stack([latents for latents, _ in pairs])
            np.stack([embeddings for _, embeddings in pairs])
        return rows // BATCH * BATCH / (time.perf_counter() - start)

    return run


def measure(folder: Path, region_px: int, megabytes: int, turns: int) -> dict[str, Any]:
    """One row of the result: medians over ``turns`` epochs each, after one to warm up."""
    rows = make(folder, region_px, megabytes)
    crop = region_px > 256
    readers = {"store": from_store(folder, rows, crop), "files": from_files(folder, rows, crop)}
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for epoch in range(turns + 1):
        for name, read in readers.items():
            rates[name].append(read(epoch))
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    return {
        "case": "crops" if crop else "256",
        "region_px": region_px,
        "rows": rows,
        "megabytes": megabytes,
        "turns": turns,
        "store_rows_per_s": round(medians["store"]),
        "files_rows_per_s": round(medians["files"]),
        "ratio": round(medians["store"] / medians["files"], 2),
        "ratios": [
            round(a / b, 2) for a, b in zip(rates["store"][1:], rates["files"][1:], strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write the data (a temporary folder)")
    arguments = parser.parse_args()
    result = []
    for region_px in (256, 1024):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            result.append(measure(Path(folder), region_px, arguments.megabytes, arguments.turns))
        print(result[-1])
    met = all(row["ratio"] >= TARGET for row in result)
    path = write_result(
        "latent_reading", {"target_ratio": TARGET, "met": met, "rows": result}, ("numpy",)
    )
    print(path)


if __name__ == "__main__":
    main()
