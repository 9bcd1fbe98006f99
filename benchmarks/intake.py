"""How fast a bundle is taken in, against `sha256sum` and `cp` of the same shards on the same disk.

The peer reads each shard twice and understands nothing of it. Ours takes a quarantined bundle: it
compares digests, reads HDF5 in confined processes, looks at every tile, writes it anew, makes it
safe on the disk (fsync), and signs. Both go turn by turn, each after the caches were filled by a
first reading. `folder` is the same through `intake_folder`, which copies the bundle first. Memory
is the greatest sum over all processes of their proportional share (PSS), read from /proc meanwhile.

    python benchmarks/intake.py [--gigabytes 1.5] [--rounds 3] [--folder /tmp]

Writes benchmarks/results/intake_<machine>.json.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _results import write_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub_server.home import HubHome
from hub_server.intake import intake_folder, intake_upload
from hub_server.registry import sites
from pixcell_share.bundles import SiteKey, bundle_digest, write_bundle
from tests.bundles.forging import COHORT, PASSED

TILE_PX = 256
SHARD_BYTES = 512 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as work:
        bench = Bench(Path(work), options.gigabytes)
        rows = [bench.turn() for _ in range(options.rounds)]
    result = summarise(rows, bench.shard_bytes)
    for name, value in result.items():
        print(f"{name}: {value}")
    print(write_result("intake", result, ("h5py", "numpy", "sqlalchemy", "cryptography")))


def summarise(rows: list[dict[str, float]], size: int) -> dict[str, Any]:
    """Medians over the rounds; ratios within a round."""
    ratios = {
        name: round(statistics.median(row["peer_s"] / row[f"{name}_s"] for row in rows), 2)
        for name in ("quarantined", "folder")
    }
    medians = {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}
    rates = {
        f"{name}_mib_per_s": round(size / 2**20 / medians[f"{name}_s"])
        for name in ("peer", "quarantined", "folder")
    }
    return {
        "shard_bytes": size,
        "rounds": len(rows),
        **medians,
        **rates,
        "speed_relative_to_sha256sum_and_cp": ratios["quarantined"],
        "speed_relative_to_sha256sum_and_cp_folder": ratios["folder"],
        "peak_memory_mib": max(row["peak_mib"] for row in rows),
    }


class Bench:
    """A hub with one member, and the member's bundle."""

    def __init__(self, work: Path, gigabytes: float) -> None:
        self.work, self.bundle = work, work / "bundle"
        self.key = SiteKey.create(work / "site.key")
        count = int(gigabytes * 1e9 / (3 * TILE_PX**2))
        cohort = COHORT.__class__(**{**vars(COHORT), "tile_px": TILE_PX})
        tiles = noise(count)
        write_bundle(
            *(self.bundle, cohort, tiles, PASSED, self.key), count=count, shard_bytes=SHARD_BYTES
        )
        self.shards = sorted(self.bundle.glob("*.h5"))
        self.shard_bytes = sum(path.stat().st_size for path in self.shards)
        read_all(self.bundle)

    def turn(self) -> dict[str, float]:
        """One round of all three; seconds."""
        row = timed("peer", self.peer)
        with watched() as peak:
            row |= self.quarantined() | self.from_folder()
        row["peak_mib"] = round(peak[0] / 2**20)
        print(row, flush=True)
        return row

    def peer(self) -> None:
        """What an administrator would type, and `sync`, since ours is on the disk too."""
        copies = self.work / "copies"
        copies.mkdir()
        subprocess.run(["sha256sum", *self.shards], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cp", *self.shards, copies], check=True)
        subprocess.run(["sync", *copies.iterdir()], check=True)
        shutil.rmtree(copies)

    def quarantined(self) -> dict[str, float]:
        """From an upload that came whole, which is moved, to the accepted cohort."""
        home, site = self.hub()
        upload = home.uploads / "upload"
        shutil.copytree(self.bundle, upload / "bundle")
        os.sync()
        read_all(upload / "bundle")
        settings = {"cohort": bundle_digest(self.bundle), "upload": "upload", "site": site}
        taken = timed("quarantined", lambda: check(intake_upload(home, settings).accepted))
        shutil.rmtree(home.folder)
        return taken

    def from_folder(self) -> dict[str, float]:
        """The operator's own folder, which is copied first."""
        home, _ = self.hub()
        taken = timed("folder", lambda: check(intake_folder(home, self.bundle).accepted))
        shutil.rmtree(home.folder)
        return taken

    def hub(self) -> tuple[HubHome, str]:
        """A new hub, and the id of its member."""
        home = HubHome(self.work / "hub")
        home.initialise("Hub")
        registry = home.registry()
        with registry.session() as session:
            invitation = sites.invite(session, COHORT.site)
            sites.join(session, invitation.code, COHORT.site, self.key.public_pem)
            site = sites.admit(session, COHORT.site, self.key.key_id).site_id
        registry.close()
        return home, site


def noise(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Tiles that all differ: a window over one field of noise that moves with each."""
    field = np.random.default_rng(0).integers(0, 256, (2 * TILE_PX, 4096, 3), dtype=np.uint8)
    for i in range(count):
        x, y = i % (4096 - TILE_PX), i // (4096 - TILE_PX)
        yield field[y : y + TILE_PX, x : x + TILE_PX], i % 2


def read_all(folder: Path) -> None:
    """Bring the shards into the system's cache."""
    for path in folder.glob("*.h5"):
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass


def timed(name: str, work: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock and of processor time, children included."""
    start, used = time.perf_counter(), processor_seconds()
    work()
    return {
        f"{name}_s": round(time.perf_counter() - start, 3),
        f"{name}_processor_s": round(processor_seconds() - used, 3),
    }


def processor_seconds() -> float:
    """Of this process and the children that have ended."""
    usage = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def check(accepted: bool) -> None:
    if not accepted:
        raise SystemExit("the bundle was refused: nothing was measured")


class watched:  # noqa: N801
    """Greatest memory of this process and all below it, while the block runs."""

    def __enter__(self) -> list[int]:
        self._peak, self._over = [0], threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self._peak

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._peak[0] = max(self._peak[0], sum(map(_pss, _family(os.getpid()))))


def _family(process: int) -> Iterator[int]:
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # it ended meanwhile
            continue
        for child in children:
            yield from _family(int(child))


def _pss(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    found = [line for line in lines if line.startswith("Pss:")]
    return int(found[0].split()[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
