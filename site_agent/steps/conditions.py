"""What conditions the draws: slides' own embeddings, mixtures of patients, noised statistics.

A `Source` is a stock of conditions that draws are made from. By default each slide of the cohort
is one, and a condition is the embedding of one of its tiles. With ``--mix`` and ``--dp-epsilon``
each class is one; its conditions are computed once from all slides and kept in the work folder
under a name that holds the digest of what went in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import SiteKey
from pixcell_share.files import atomic_path, canonical_json
from pixcell_share.privacy.dp_conditions import DpSettings, dp_conditions
from pixcell_share.privacy.mixing import mix_embeddings
from pixcell_share.slides import SlideRecord, read_features
from site_agent.groups import Groups, conditioning_tiles
from site_agent.inputs import UNLABELLED, patient_of
from site_agent.run_folder import RunFolder, SlideState

_MIX = "mixing v1"
_NOISE = "differential privacy v1"
_PER_PATIENT = 16  # conditions for each patient of noised statistics, where --max-tiles is silent

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_Stock = tuple[Floats, dict[str, NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Source:
    """A stock of conditions."""

    name: str
    """The slide, or what the class's conditions are called in the work folder."""
    label: str
    conditions: Ints
    """(N,) which of the stock are drawn from: positions in the slide's grid, or rows."""
    draws: int
    """Draws for each condition."""
    stock: Path
    """The slide's features, or an ``.npy`` of conditions with an ``.npz`` of members beside it."""
    slide: bool
    """Whether the stock is a slide's."""
    fixed: bool = False
    """Whether its tiles are judged as they are: none is drawn again or dropped."""

    def read(self, positions: Ints) -> tuple[Floats, Ints]:
        """Embeddings (B, T, D) or (B, D) at ``positions``, and what seeds their noise (B, 2)."""
        if self.slide:
            with read_features(self.stock) as features:
                rows = [features[place : place + 1] for place in positions.tolist()]
                return np.concatenate(rows), features.coords[positions]
        found: Floats = np.array(np.load(self.stock, mmap_mode="r")[positions])
        return found, np.stack([positions, np.zeros_like(positions)], axis=1)

    def members(self, positions: Ints, start: int) -> Ints | None:
        """(B, k) numbers of the real tiles behind conditions; None where no tile alone is.

        Args:
            positions: of the conditions.
            start: number of the slide's first real tile in the run.
        """
        if self.slide:
            return positions[:, None] + start
        with np.load(notes_of(self.stock)) as stored:
            return stored["members"][positions] if "members" in stored.files else None


def find_sources(
    run: RunFolder,
    records: Sequence[SlideRecord],
    states: Sequence[SlideState],
    groups: Groups,
    key: SiteKey,
) -> list[Source]:
    """The sources of a run, in the order of slides or of classes; made where they are missing.

    Raises:
        SettingsError: a class has fewer patients than ``--mix`` asks for, or epsilon and delta do
            not fit the number of patients.
    """
    cohort = [
        (record, state)
        for record, state in zip(records, states, strict=True)
        if state.used and groups.conditions(record)
    ]
    if run.settings.mix == 1 and run.settings.dp_epsilon is None:
        return [_of_slide(run, record, state, key) for record, state in cohort]
    return _Classes(run, records, states, cohort, groups, key).sources()


def _of_slide(run: RunFolder, record: SlideRecord, state: SlideState, key: SiteKey) -> Source:
    return Source(
        name=state.slide_id,
        label=record.label or UNLABELLED,
        conditions=conditioning_tiles(state, run.settings.max_tiles, key),
        draws=run.settings.per_tile,
        stock=run.features(state.slide_id),
        slide=True,
    )


class _Classes:
    """Conditions computed over all slides of each class."""

    def __init__(
        self,
        run: RunFolder,
        records: Sequence[SlideRecord],
        states: Sequence[SlideState],
        cohort: Sequence[tuple[SlideRecord, SlideState]],
        groups: Groups,
        key: SiteKey,
    ) -> None:
        self._run = run
        self._cohort = cohort
        self._groups = groups
        self._key = key
        used = [state for state in states if state.used]
        counts = np.cumsum([0, *(state.tiles for state in used)])
        self._starts = {
            state.slide_id: int(at) for state, at in zip(used, counts[:-1], strict=True)
        }
        self._names = sorted({record.label or UNLABELLED for record, _ in cohort})

    def sources(self) -> list[Source]:
        settings = self._run.settings
        digest = self._digest()
        places = [self._run.conditions(f"class-{n}-{digest}") for n in range(len(self._names))]
        if not all(notes_of(place).exists() for place in places):
            self._make(places)
        # A group of k tiles is drawn from k times, so that mixing keeps the cohort's size.
        draws = settings.per_tile * settings.mix
        return [
            Source(
                place.stem, label, np.arange(_stocked(place)), draws, place,
                slide=False, fixed=settings.dp_epsilon is not None,
            )
            for place, label in zip(places, self._names, strict=True)
        ]  # fmt: skip

    def _digest(self) -> str:
        """12 hex digits that change with whatever the conditions are made from."""
        settings = self._run.settings
        inputs = [
            [settings.mix, settings.dp_epsilon, settings.dp_delta, settings.max_tiles],
            [[state.slide_id, state.source, state.tiles, patient_of(record), record.label]
             for record, state in self._cohort],
        ]  # fmt: skip
        return hashlib.sha256(canonical_json(inputs)).hexdigest()[:12]

    def _make(self, places: Sequence[Path]) -> None:
        embeddings, patients, labels, rows = self._gather()
        made = self._noised if self._run.settings.dp_epsilon is not None else self._mixed
        found = made(embeddings, patients, labels, rows)
        for place, (conditions, notes) in zip(places, found, strict=True):
            with atomic_path(place) as part, part.open("wb") as stream:
                np.save(stream, conditions)
            with atomic_path(notes_of(place)) as part, part.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **notes)

    def _gather(self) -> tuple[Floats, Ints, Ints, Ints]:
        """Embeddings, patient, class and number in the run of every conditioning tile."""
        number = {patient: place for place, patient in enumerate(self._groups.patients)}
        limit = self._run.settings.max_tiles
        embeddings, patients, labels, rows = [], [], [], []
        for record, state in self._cohort:
            chosen = conditioning_tiles(state, limit, self._key)
            with read_features(self._run.features(state.slide_id)) as features:
                embeddings.append(np.asarray(features[0 : len(features)])[chosen])
            patients.append(np.full(len(chosen), number[patient_of(record)]))
            labels.append(np.full(len(chosen), self._names.index(record.label or UNLABELLED)))
            rows.append(chosen + self._starts[state.slide_id])
        found = [np.concatenate(part) for part in (embeddings, patients, labels, rows)]
        return found[0].astype(np.float32), found[1], found[2], found[3]

    def _mixed(self, embeddings: Floats, patients: Ints, labels: Ints, rows: Ints) -> list[_Stock]:
        mixed = mix_embeddings(
            embeddings, patients, labels, self._run.settings.mix,
            secret=self._key.derive(_MIX), class_names=self._names,
        )  # fmt: skip
        chosen = [mixed.labels == number for number in range(len(self._names))]
        return [(mixed.conditions[of], {"members": rows[mixed.members[of]]}) for of in chosen]

    def _noised(self, embeddings: Floats, patients: Ints, labels: Ints, rows: Ints) -> list[_Stock]:
        settings = self._run.settings
        assert settings.dp_epsilon is not None
        made = dp_conditions(
            embeddings, patients, labels, len(self._names),
            settings=DpSettings(settings.dp_epsilon, settings.dp_delta),
            secret=self._key.derive(_NOISE),
            per_patient=settings.max_tiles or _PER_PATIENT,
        )  # fmt: skip
        promise = Promise(
            epsilon=made.guarantee.epsilon,
            delta=made.guarantee.delta,
            signal=float(made.signal),
            class_signal=float(min(made.class_signal)),
            directions=int(made.directions),
        )
        noted = np.frombuffer(canonical_json(asdict(promise)), np.uint8)
        return [
            (made.conditions[made.labels == number], {"promise": noted})
            for number in range(len(self._names))
        ]


def _stocked(place: Path) -> int:
    return len(np.load(place, mmap_mode="r"))


def notes_of(place: Path) -> Path:
    """Where the members or the promise of the conditions at ``place`` are; written last."""
    return place.with_suffix(".npz")


@dataclass(frozen=True)
class Promise:
    """What differentially private conditions promise, and what is left in them."""

    epsilon: float
    delta: float
    signal: float
    """`DpConditions.signal`."""
    class_signal: float
    """The least of `DpConditions.class_signal`."""
    directions: int
    """`DpConditions.directions`: with none, all conditions of a class are the same."""


def promise_of(sources: Sequence[Source]) -> Promise | None:
    """That of a cohort's conditions, or None where they are not differentially private."""
    for source in sources:
        if not source.slide:
            with np.load(notes_of(source.stock)) as stored:
                if "promise" in stored.files:
                    return Promise(**json.loads(stored["promise"].tobytes()))
    return None
