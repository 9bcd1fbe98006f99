"""The work folder of a run: where everything lies, and what is already done.

::

    OUT/
      bundle/                         the signed bundle: the only thing that leaves the site
      report.html, audit.html         private
      run.json                        settings that decide the bytes
      contours_geojson/ID.geojson     tissue, for QuPath
      thumbnails/ID.jpg               slide with contours and grid
      20x_256px_0px_overlap/          TRIDENT's layout
        patches/ID_patches.h5
        features_ENCODER/ID.h5
      work/                           private stores that let the next run go on
        slides/ID.json                what became of a slide
        fingerprints/ID.npy           (N, F) pixel fingerprints of the real tiles
        conditions/NAME.npy, .npz     mixtures or noised statistics of a class
        draws/SOURCE/00000.npy        (B, H, W, 3) synthetic tiles, a block a file
        checks/DIGEST/SOURCE/...npz   what the checks said of each block
        audit/ENCODER/...npz          embeddings in the audit's encoder
        release.json                  inputs and digest of the bundle
        settings.json                 the command, with its paths

Every file is written whole or not at all, so what exists is done.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pixcell_share.bundles import bundle_digest
from pixcell_share.errors import SlideError, WorkFolderError
from pixcell_share.files import atomic_write_text, canonical_json, storage_errors
from pixcell_share.privacy import NearCopySettings
from pixcell_share.privacy.ledger import Mark
from pixcell_share.slides import SlideRecord
from pixcell_share.slides.grid_format import nominal_magnification
from pixcell_share.weights import ModelIdentity
from site_agent.command import dump_settings
from site_agent.settings import SynthesisSettings

_SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class SlideState:
    """What became of one slide; ``reason`` is set when it was left out."""

    slide_id: str
    source: dict[str, Any]
    """Size and change time of the file, and the µm/px given for it: when these change, the
    slide is done again."""
    reason: dict[str, str] | None = None
    """Code, cause and remedy of the error that left the slide out."""
    mpp: float = 0.0
    mpp_source: str = ""
    width: int = 0
    height: int = 0
    tiles: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Candidates of the grid and why some were not kept."""
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> bool:
        """Whether the slide gives tiles."""
        return self.reason is None

    def left_out(self, error: SlideError) -> SlideState:
        """The same slide, left out because of ``error``."""
        return SlideState(slide_id=self.slide_id, source=self.source, reason=error.diagnostics())


class RunFolder:
    """Paths and states of one run."""

    def __init__(self, settings: SynthesisSettings) -> None:
        self.root = settings.out
        self.settings = settings
        self._real = settings.stores or settings.out
        tiling = settings.tiling
        self.tiling_name = (
            f"{nominal_magnification(tiling.mpp)}x_{tiling.tile_px}px_{tiling.overlap_px}px_overlap"
        )

    # -- places ---------------------------------------------------------------------------

    @property
    def bundle(self) -> Path:
        """The outbox: the folder that may leave the site."""
        return self.root / "bundle"

    @property
    def audit_report(self) -> Path:
        """The privacy officer's page."""
        return self.root / "audit.html"

    @property
    def report(self) -> Path:
        """The private report."""
        return self.root / "report.html"

    def coords(self, slide_id: str) -> Path:
        """TRIDENT-layout tile coordinates of a slide."""
        return self._real / self.tiling_name / "patches" / f"{slide_id}_patches.h5"

    def features(self, slide_id: str) -> Path:
        """TRIDENT-layout embeddings of a slide."""
        name = f"features_{self.settings.encoder_name}"
        return self._real / self.tiling_name / name / f"{slide_id}.h5"

    def contours(self, slide_id: str) -> Path:
        """Tissue contours of a slide."""
        return self._real / "contours_geojson" / f"{slide_id}.geojson"

    def thumbnail(self, slide_id: str) -> Path:
        """Thumbnail of a slide with contours and grid."""
        return self._real / "thumbnails" / f"{slide_id}.jpg"

    def fingerprints(self, slide_id: str) -> Path:
        """Pixel fingerprints of the real tiles of a slide."""
        return self._real / "work" / "fingerprints" / f"{slide_id}.npy"

    def draws(self, source: str, block: int) -> Path:
        """One block of synthetic tiles of a source."""
        return self._work / "draws" / source / f"{block:05d}.npy"

    def conditions(self, name: str) -> Path:
        """Conditions of a class that were computed over all slides."""
        return self._work / "conditions" / f"{name}.npy"

    def audit_real(self, encoder: str, slide_id: str) -> Path:
        """Embeddings in the audit's encoder of some real tiles of a slide."""
        return self._real / "work" / "audit" / encoder / f"{slide_id}.npz"

    def audit_draws(self, encoder: str, inventory: str, source: str, block: int) -> Path:
        """Embeddings in the audit's encoder of a checked block of synthetic tiles."""
        return self._work / "audit" / encoder / inventory / source / f"{block:05d}.npz"

    def checks(self, inventory: str, source: str, block: int) -> Path:
        """What the checks, run against the real tiles ``inventory``, said of one block."""
        return self._work / "checks" / inventory / source / f"{block:05d}.npz"

    def errors(self, slide_id: str) -> Path:
        """The traceback of a slide that failed in a way nobody foresaw."""
        return self._work / "errors" / f"{slide_id}.txt"

    @property
    def times(self) -> Path:
        """Busy times of this part."""
        part = self.settings.part
        name = f"times-{part.index}-of-{part.count}.json" if part else "times.json"
        return self._work / name

    def all_times(self) -> list[Path]:
        """Busy times of all parts."""
        return sorted(self._work.glob("times*.json"))

    @property
    def _work(self) -> Path:
        return self.root / "work"

    @property
    def _run_file(self) -> Path:
        return self.root / "run.json"

    # -- opening --------------------------------------------------------------------------

    @contextmanager
    def opened(self, key_id: str) -> Iterator[RunFolder]:
        """Claim the folder for this process and check that it belongs to these settings.

        Raises:
            WorkFolderError: another process works on the same part, or the folder was made
                with other settings or another key.
            StorageError: the folder cannot be written.
        """
        with storage_errors(self.root):
            self._work.mkdir(parents=True, exist_ok=True)
        with self._claimed():
            self._agree({"schema": _SCHEMA, "key_id": key_id, **self.settings.identity()})
            yield self

    def pin_batch_size(self, find: Callable[[], int]) -> None:
        """Settle how many tiles are drawn together, once for the run and all its parts.

        Other batches would round differently, so a resumed run has to form the same ones.

        Args:
            find: the number for this machine; called where neither the settings nor an earlier
                part have said one.
        """
        if self.settings.sampler.batch_size is None:
            self._settle_batch_size(find())

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold the locks of this run; the system frees them however the process ends.

        Parts share the folder with each other, the whole run with nobody.
        """
        part = self.settings.part
        with self._locked("run.lock", fcntl.LOCK_SH if part else fcntl.LOCK_EX):
            if part is None:
                self._clear_unfinished()
                yield
                return
            with self._locked(f"part-{part.index}-of-{part.count}.lock", fcntl.LOCK_EX):
                yield

    @contextmanager
    def _locked(self, name: str, kind: int, *, wait: bool = False) -> Iterator[None]:
        with (self._work / name).open("w") as lock:
            try:
                fcntl.flock(lock, kind if wait else kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WorkFolderError(
                    f"another process is working in {self.root}",
                    "wait for it, or choose another --out",
                ) from error
            yield

    def _clear_unfinished(self) -> None:
        """Remove files that a killed run had begun to write."""
        for path in self.root.rglob(".*.part"):
            if path.is_file():
                path.unlink()

    def pin_models(self, identities: Sequence[ModelIdentity]) -> None:
        """Remember which weights this run uses; refuse to go on with others of the same name.

        Raises:
            WorkFolderError: the weights have changed since the run began.
        """
        pinned = self._work / "models.json"
        now = [asdict(identity) for identity in identities]
        if not pinned.exists():
            atomic_write_text(pinned, json.dumps(now, indent=2) + "\n")
        elif json.loads(pinned.read_text()) != now:
            raise WorkFolderError(
                f"the weights of the models have changed since {self.root} was made",
                "put the earlier weights back, or choose another --out",
            )

    def _agree(self, identity: dict[str, Any]) -> None:
        if not self._run_file.exists():
            atomic_write_text(self._run_file, json.dumps(identity, indent=2, sort_keys=True) + "\n")
            return
        try:
            before = json.loads(self._run_file.read_text())
        except ValueError as error:
            raise WorkFolderError(
                f"{self._run_file} cannot be read", "choose another --out"
            ) from error
        wanted = identity["batch_size"]
        if None in (wanted, before.get("batch_size")):
            identity = {**identity, "batch_size": before.get("batch_size")}
        changed = [
            f"{name} was {before.get(name)!r}, now {identity.get(name)!r}"
            for name in sorted(before.keys() | identity.keys())
            if before.get(name) != identity.get(name)
        ]
        if changed:
            raise WorkFolderError(
                f"{self.root} was made with other settings: {'; '.join(changed)}",
                "use the same settings to go on, or choose another --out",
            )
        if wanted is not None or before.get("batch_size") is not None:
            self._settle_batch_size(wanted or before["batch_size"])

    def _settle_batch_size(self, found: int) -> None:
        """Use the number in ``run.json``; where there is none yet, write ``found`` there."""
        with self._locked("batch-size.lock", fcntl.LOCK_EX, wait=True):
            values = json.loads(self._run_file.read_text())
            if values["batch_size"] is None:
                values["batch_size"] = found
                text = json.dumps(values, indent=2, sort_keys=True) + "\n"
                atomic_write_text(self._run_file, text)
        sampler = replace(self.settings.sampler, batch_size=values["batch_size"])
        self.settings = replace(self.settings, sampler=sampler)

    def remember_command(self) -> None:
        """Keep the settings with their paths, so that the run can be audited again by its name."""
        place, text = self._work / "settings.json", dump_settings(self.settings)
        if self.settings.stores is None and (not place.exists() or place.read_text() != text):
            atomic_write_text(place, text)

    # -- states ---------------------------------------------------------------------------

    def _state_file(self, slide_id: str) -> Path:
        return self._real / "work" / "slides" / f"{slide_id}.json"

    def state(self, record: SlideRecord) -> SlideState | None:
        """What became of a slide before, if the slide is still the same."""
        path = self._state_file(record.slide_id)
        if not path.exists():
            return None
        values = json.loads(path.read_text())
        if values["source"] != record.stamp():
            self.forget(record.slide_id)
            return None
        return SlideState(**{**values, "notes": tuple(values["notes"])})

    def keep(self, state: SlideState) -> SlideState:
        """Write a slide's state."""
        text = json.dumps(asdict(state), indent=2, sort_keys=True) + "\n"
        atomic_write_text(self._state_file(state.slide_id), text)
        return state

    def forget(self, slide_id: str) -> None:
        """Remove what was made from a slide that has changed since."""
        for path in (
            self.coords(slide_id),
            self.features(slide_id),
            self.contours(slide_id),
            self.thumbnail(slide_id),
            self.fingerprints(slide_id),
            self._state_file(slide_id),
        ):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.draws(slide_id, 0).parent, ignore_errors=True)

    def forget_checks(self, *, except_of: str) -> None:
        """Remove verdicts that were given against other real tiles."""
        for folder in (self._work / "checks").glob("*"):
            if folder.name != except_of:
                shutil.rmtree(folder)

    # -- the release ----------------------------------------------------------------------

    @property
    def _release_file(self) -> Path:
        return self._work / "release.json"

    def release(self) -> dict[str, Any] | None:
        """What the last release was made from, and what came of it."""
        if not self._release_file.exists():
            return None
        values: dict[str, Any] = json.loads(self._release_file.read_text())
        return values

    def set_aside_bundle(self, inputs: Any) -> None:
        """Keep the bundle of other ``inputs`` under a name of its own: none is overwritten."""
        before = self.release()
        if before is None or before["inputs"] == inputs or not self.bundle.exists():
            return
        digest = before["outcome"]["digest"]
        # Killed after the rename, a run finds the new bundle here: that one stays.
        if bundle_digest(self.bundle) == digest:
            self.bundle.rename(self.root / f"bundle-{digest[:12]}")

    def ledger_mark(self) -> Mark | None:
        """The last entry of the ledger that this run saw."""
        if not self._mark_file.exists():
            return None
        return Mark(**json.loads(self._mark_file.read_text()))

    def keep_ledger_mark(self, mark: Mark) -> None:
        """Remember it, so that an older ledger put in its place is noticed."""
        atomic_write_text(self._mark_file, json.dumps(asdict(mark)) + "\n")

    @property
    def _mark_file(self) -> Path:
        return self._work / "ledger-mark.json"

    def keep_release(self, values: dict[str, Any]) -> None:
        """Write what the release was made from, and what came of it."""
        atomic_write_text(self._release_file, json.dumps(values, indent=2, sort_keys=True) + "\n")


def inventory_digest(
    states: Sequence[SlideState], records: Sequence[SlideRecord], limits: NearCopySettings
) -> str:
    """16 hex digits that change with the used slides, their labels, their tiles, or the limits."""
    labels = {record.slide_id: (record.case_id, record.label) for record in records}
    used = [
        [state.slide_id, state.source, state.tiles, labels[state.slide_id]]
        for state in states
        if state.used
    ]
    return hashlib.sha256(canonical_json([used, asdict(limits)])).hexdigest()[:16]
