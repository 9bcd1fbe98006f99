"""`pixcell-train latents`: from slides or pictures to a store."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator
from itertools import groupby

import numpy as np

from pixcell_share.errors import PixcellError, SlideError
from pixcell_share.files import atomic_write_text
from pixcell_share.prefetch import prefetch
from pixcell_share.progress import Advance, View
from pixcell_share.training.latents.description import describe_store, settle
from pixcell_share.training.latents.entries import Entry, Picture, RegionSource, turned
from pixcell_share.training.latents.info import SPLITS, Split
from pixcell_share.training.latents.journal import Journal
from pixcell_share.training.latents.models import RegionCoder
from pixcell_share.training.latents.outcome import Made, nothing_left, sum_up
from pixcell_share.training.latents.plan import Plan, Want
from pixcell_share.training.latents.settings import LatentSettings, open_source
from pixcell_share.training.latents.split import Division, hashed
from pixcell_share.training.latents.writer import StoreWriter, claimed

_ORDER = "pixcell-share latents order, version 1"
_AHEAD_BYTES = 2**28
"""Pictures read ahead: 85 regions of 1024 px."""


def make_store(settings: LatentSettings, view: View) -> Made:
    """Make a store, or go on with it.

    Each slide is surveyed, then read once; a bad one is left out with its reason.

    Raises:
        SettingsError: an option or a table is wrong.
        WorkFolderError: the store was begun with other settings or other slides.
        WeightsError: a model cannot be used.
        DataError: nothing is left to store.
        StorageError: the disk is full.
    """
    source = open_source(settings)
    coder = RegionCoder(settings.coder, settings.region_px)
    info = describe_store(settings, source, coder)
    with claimed(settings.out):
        settle(settings.out, info, source.unit)
        with StoreWriter(settings.out, info) as writer:
            begun = any(writer.rows_done(split) for split in SPLITS)
            with Journal(settings.out, try_again=not (begun or writer.finished)) as journal:
                return _Making(settings, source, coder, writer, journal, view).run()


class _Making:
    """One run over an opened store."""

    def __init__(
        self,
        settings: LatentSettings,
        source: RegionSource,
        coder: RegionCoder,
        writer: StoreWriter,
        journal: Journal,
        view: View,
    ) -> None:
        self._settings = settings
        self._source = source
        self._coder = coder
        self._writer = writer
        self._journal = journal
        self._view = view
        # By a hash, so that neighbours in a folder do not fill a shard by themselves.
        self._entries = sorted(source.entries, key=lambda entry: hashed(_ORDER, entry.name))
        self._batch = settings.batch_size or coder.batch_size

    def run(self) -> Made:
        division = Division(self._entries, self._settings.holdout)
        if self._writer.finished:
            return self._sum_up("nothing to do")
        self._survey()
        plan = Plan(self._entries, self._journal, division, self._settings)
        if not plan.total:
            raise nothing_left(self._source.unit, self._entries, self._journal)
        self._encode(plan)
        self._writer.finish()
        return self._sum_up("done")

    def _sum_up(self, status: str) -> Made:
        settings, unit = self._settings, self._source.unit
        return sum_up(status, settings.out, unit, self._entries, self._journal)

    # -- the survey ---------------------------------------------------------------------------

    def _survey(self) -> None:
        known = sum(entry in self._journal for entry in self._entries)
        found = 0
        with self._view.stage("survey", len(self._entries), self._source.unit, known) as advance:
            for entry in self._entries:
                if self._settings.limit is not None and found >= self._settings.limit:
                    return
                if entry not in self._journal:
                    self._survey_one(entry)
                    advance(1)
                found += self._journal[entry].usable

    def _survey_one(self, entry: Entry) -> None:
        try:
            self._journal.found(entry, self._source.survey(entry))
        except SlideError as error:
            self._journal.left_out(entry, error.diagnostics())
            self._view.say(f"left out {entry.name}: {error.cause}")
        except PixcellError:
            raise
        except Exception as error:
            reason = self._unexpected(entry, error)
            self._journal.left_out(entry, reason)
            self._view.say(f"left out {entry.name}: {reason['cause']}")

    def _unexpected(self, entry: Entry, error: Exception) -> dict[str, str]:
        """Keep the traceback, so that one slide's surprise does not stop a night."""
        name = hashlib.sha256(entry.name.encode()).hexdigest()[:12]
        log = self._writer.folder / "errors" / f"{name}.txt"
        atomic_write_text(log, f"{entry.name}\n{''.join(traceback.format_exception(error))}")
        return {
            "code": "unexpected",
            "cause": f"{entry.name} brought out an unexpected {type(error).__name__}: {error}",
            "remedy": f"the traceback is in errors/{log.name} of the store: please report it",
        }

    # -- encoding -----------------------------------------------------------------------------

    def _encode(self, plan: Plan) -> None:
        done = {split: self._writer.rows_done(split) for split in SPLITS}
        ahead = max(2, _AHEAD_BYTES // (3 * self._settings.region_px**2))
        with self._view.stage("encode", plan.total, "rows", sum(done.values())) as advance:
            waiting: dict[Split, list[tuple[Picture, Want]]] = {split: [] for split in SPLITS}
            for picture, want in prefetch(self._read(plan, done), ahead):
                rows = waiting[want.split]
                rows.append((picture, want))
                # A shard begins with a batch of its own: a number can depend on the batch that
                # it was computed in, and a resumed run begins with a shard.
                if len(rows) == min(self._batch, self._writer.room(want.split)):
                    self._flush(rows, advance)
            for rows in waiting.values():
                self._flush(rows, advance)

    def _flush(self, rows: list[tuple[Picture, Want]], advance: Advance) -> None:
        if not rows:
            return
        coded = self._coder.encode(np.stack([picture for picture, _ in rows]))
        for (_, want), latents, embeddings in zip(rows, *coded, strict=True):
            self._writer.add(want.split, latents, embeddings, want.index)
        advance(len(rows))
        rows.clear()

    def _read(self, plan: Plan, done: dict[Split, int]) -> Iterator[tuple[Picture, Want]]:
        """Every row that is still to be made; runs in a thread of its own."""
        for entry, wants in plan.wanted(done):
            by_region = {key: list(group) for key, group in groupby(wants, lambda w: w.region)}
            regions = list(by_region)
            reading = self._source.read(entry, self._journal[entry].corners[regions])
            for at, region in enumerate(regions):
                picture = self._read_one(reading, entry, regions[at:])
                if picture is None:
                    break
                for want in by_region[region]:
                    yield turned(picture, want.turn), want

    def _read_one(
        self, reading: Iterator[Picture], entry: Entry, left: list[int]
    ) -> Picture | None:
        """The next region; None after noting that it and all behind it are lost."""
        try:
            return next(reading)
        except SlideError as error:
            reason = error.diagnostics()
        except PixcellError:
            raise
        except Exception as error:
            reason = self._unexpected(entry, error)
        self._journal.lost(entry, left, reason)
        self._view.say(f"left out {len(left)} regions of {entry.name}: {reason['cause']}")
        return None
