"""Patient linkage: who holds other tiles of a patient asks if that patient is in the cohort."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError
from pixcell_share.privacy._near import require, to_nearest
from pixcell_share.privacy.intervals import Estimate, Share
from pixcell_share.privacy.power import ALARM, detectable_residual, threshold_rank
from pixcell_share.privacy.rates import auc_by_patient, left_out_ranks, outside_ranks
from pixcell_share.privacy.residual import Residual
from pixcell_share.privacy.sample import AuditSample, Ints, Tiles
from pixcell_share.privacy.whitening import Whitening, few_of_each

Values = NDArray[np.float64]

_HAVE = 0.1
_LEAST = 1e-6
_OUTSIDE = 2
"""Patients set aside that a class needs: each is judged by the others."""


@dataclass(frozen=True)
class LinkageSettings:
    """What the attacker holds and dares."""

    tiles_held: int = 4
    """Tiles of each patient that the attacker holds, at most: as many as nine of ten patients of
    both groups have. All are judged on the same number, so that no score grows with it."""

    alarm: float = ALARM
    """Share of patients outside whom the attacker may declare in by mistake."""

    whiten: bool = True
    """Whether the attacker evens out the directions of the embeddings (`Whitening`), fitted to
    the held tiles: equally many of every patient, so members and patients outside fare alike."""


@dataclass(frozen=True, eq=False)
class PatientScores:
    """What the attack found of each patient of one group. Private: never part of a bundle."""

    patients: Ints
    """(P,) numbers, ascending."""
    scores: Values
    """(P,) the nearer to synthetic tiles, the higher."""
    ranks: Values
    """(P,) conformal p-value against the patients set aside: small where the score is unusual."""
    declared: NDArray[np.bool_]
    """(P,) whether the attacker declares the patient to be in the cohort."""


@dataclass(frozen=True, eq=False)
class Linkage:
    """How often the attack is right, beside how often it says the same of patients outside."""

    possible: bool
    """False where too few patients were set aside for any to be declared in: the other figures
    then say nothing, and their intervals are (0, 1)."""
    tiles_held: int
    attack: Share
    """Patients of the cohort who are declared in."""
    control: Share
    """Patients set aside who are declared in, each judged by the others."""
    residual: Estimate
    """(a - c) / (1 - c) of the two: `Residual`."""
    auc: Estimate
    """Chance that a patient of the cohort scores above one set aside; one half: no signal."""
    detectable: float
    """Smallest residual that would have been noticed: `detectable_residual`."""
    left_out: int
    """Patients of both groups with too few tiles, or of a class that cannot be judged."""
    members: PatientScores
    outsiders: PatientScores


def patient_linkage(
    sample: AuditSample, *, seed: int, settings: LinkageSettings | None = None
) -> Linkage:
    """Attack the cohort with the probes of its patients, and the patients set aside alike.

    A held tile scores minus the distance to the nearest synthetic tile of its class, less the
    median and in units of the mean deviation of that over the holdout tiles of *other* patients in
    the class, as classes differ in how typical their tiles are; a patient scores the mean over the
    held tiles. A patient is declared in who scores above all but the floor(alarm n) - 1 highest of
    the n patients set aside; equal scores count against the attacker, in both groups.

    Distances are Euclidean, of whitened embeddings. On lung tiles (groups standing in for patients)
    whose simulated synthetic tiles kept 70 % of their sources' deviation from the class, that
    raised the residual from about 0.02 to 0.4. A score that also asks how near other patients' real
    tiles come (the difference, or a regression on it) then added nothing, and is left out:
    ``python benchmarks/linkage.py``.

    Args:
        sample: the groups.
        seed: of the held tiles and the bootstrap.
        settings: what the attacker holds and dares.

    Raises:
        AuditError: no holdout patient, no probe, or no tile.
    """
    require(sample, "patient linkage")
    if not len(sample.probes):
        raise AuditError("no patient has a tile left to probe with", "add tiles per patient")
    chosen = settings or LinkageSettings()
    classes = _judged_classes(sample)
    members, outsiders = _of(sample.probes, classes), _of(sample.holdout, classes)
    everyone = len(np.union1d(sample.conditioning.patients, sample.probes.patients))
    outside = len(np.unique(sample.holdout.patients))
    usual = min(_usual(members, everyone), _usual(outsiders, outside))
    held = min(chosen.tiles_held, max(1, usual))
    rng = np.random.default_rng(seed)
    members, outsiders = _hold(members, held, rng), _hold(outsiders, held, rng)
    left_out = everyone + outside - (len(members) + len(outsiders)) // held
    if chosen.whiten and len(members) + len(outsiders):
        space = Whitening.of(np.concatenate([members.embeddings, outsiders.embeddings]))
        sample = replace(sample, synthetic=space(sample.synthetic))
        members, outsiders = members.mapped(space), outsiders.mapped(space)
    return _verdict(sample, members, outsiders, held, left_out, chosen.alarm, seed)


def _verdict(
    sample: AuditSample,
    members: Tiles,
    outsiders: Tiles,
    held: int,
    left_out: int,
    alarm: float,
    seed: int,
) -> Linkage:
    """Score both groups, each patient with ``held`` tiles in a row, and compare."""
    ours, theirs = _scores(sample, members, outsiders)
    ours, theirs = ours.reshape(-1, held).mean(axis=1), theirs.reshape(-1, held).mean(axis=1)
    count, rank = len(theirs), threshold_rank(len(theirs), alarm)
    inside = _judged(members.patients[::held], ours, outside_ranks(ours, theirs), rank, count + 1)
    outside = _judged(outsiders.patients[::held], theirs, left_out_ranks(theirs), rank, count)
    attack, control = _declared(inside), _declared(outside)
    possible = rank > 0 and attack.total > 0
    return Linkage(
        possible=possible,
        tiles_held=held,
        attack=attack,
        control=control,
        residual=Residual(attack, control).estimate if possible else Estimate(0.0, 0.0, 1.0),
        auc=_auc(inside, outside, seed),
        detectable=detectable_residual(attack.total, count, alarm) if possible else 1.0,
        left_out=left_out,
        members=inside,
        outsiders=outside,
    )


def _judged(patients: Ints, scores: Values, ranks: Values, rank: int, among: int) -> PatientScores:
    return PatientScores(patients, scores, ranks, ranks * among < rank + 0.5)


def _declared(group: PatientScores) -> Share:
    return Share(int(group.declared.sum()), len(group.patients))


def _auc(inside: PatientScores, outside: PatientScores, seed: int) -> Estimate:
    if not len(inside.patients) or not len(outside.patients):
        return Estimate(0.5, 0.0, 1.0)
    return auc_by_patient(
        inside.scores, outside.scores, inside.patients, outside.patients, seed=seed
    )


def _judged_classes(sample: AuditSample) -> Ints:
    """Classes with a synthetic tile and enough patients set aside."""
    labels = np.intersect1d(sample.synthetic_labels, sample.holdout.labels)
    holdout = sample.holdout
    enough = [
        label
        for label in labels.tolist()
        if len(np.unique(holdout.patients[holdout.labels == label])) >= _OUTSIDE
    ]
    return np.asarray(enough, dtype=np.int64)


def _of(tiles: Tiles, classes: Ints) -> Tiles:
    return tiles.take(np.isin(tiles.labels, classes))


def _usual(tiles: Tiles, patients: int) -> int:
    """How many tiles nine of ten of that many patients have, some of whom may have none."""
    counts = np.zeros(patients, dtype=np.int64)
    found = np.unique(tiles.patients, return_counts=True)[1]
    counts[: len(found)] = found
    return int(np.quantile(counts, _HAVE, method="lower"))


def _hold(tiles: Tiles, held: int, rng: np.random.Generator) -> Tiles:
    """``held`` random tiles of each patient who has as many, patient after patient."""
    chosen = tiles.take(few_of_each(tiles.patients, held, rng))
    patients, counts = np.unique(chosen.patients, return_counts=True)
    return chosen.take(np.isin(chosen.patients, patients[counts == held]))


def _scores(sample: AuditSample, members: Tiles, outsiders: Tiles) -> tuple[Values, Values]:
    """Score of each held tile, of members and of patients outside."""
    ours, theirs = _closeness(sample, members), _closeness(sample, outsiders)
    classes = np.unique(outsiders.labels)
    if len(classes) < 2:
        return ours, theirs
    scaled = np.zeros(len(ours)), np.zeros(len(theirs))
    for label in classes.tolist():
        mine, other = members.labels == label, outsiders.labels == label
        scaled[0][mine] = _against(ours[mine], theirs[other])
        people = outsiders.patients[other]
        scaled[1][other] = _against_others(theirs[other], people)
    return scaled


def _against(values: Values, background: Values) -> Values:
    """(N,) how many usual deviations each value lies above the usual one of the background."""
    usual = np.median(background)
    spread = np.abs(background - usual).mean()
    return np.asarray((values - usual) / max(float(spread), _LEAST))


def _against_others(values: Values, patients: Ints) -> Values:
    """(N,) each patient's values against those of the other patients."""
    found = np.empty(len(values))
    for patient in np.unique(patients).tolist():
        own = patients == patient
        found[own] = _against(values[own], values[own] if own.all() else values[~own])
    return found


def _closeness(sample: AuditSample, tiles: Tiles) -> Values:
    """(N,) minus the distance of each tile to the nearest synthetic tile of its class."""
    found = np.zeros(len(tiles))
    for label in np.unique(tiles.labels).tolist():
        rows = tiles.labels == label
        released = sample.synthetic[sample.synthetic_labels == label]
        found[rows] = -to_nearest(tiles.embeddings[rows], released)[0]
    return found
