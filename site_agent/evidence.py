"""All that the audit measures on a cohort, from checked tiles to the figures of every attack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.privacy import AuditSample, ControlResult, run_control
from pixcell_share.privacy.authenticity import authenticity
from pixcell_share.privacy.centring import centred
from pixcell_share.privacy.closest_record import closest_record
from pixcell_share.privacy.data_copying import data_copying
from pixcell_share.privacy.encoder_control import encoder_control
from pixcell_share.privacy.gate import CohortFacts, Evidence
from pixcell_share.privacy.linkage import Linkage, LinkageSettings, patient_linkage
from pixcell_share.privacy.membership import Membership
from pixcell_share.privacy.power import detectable_residual
from pixcell_share.privacy.retrieval import retrieval
from pixcell_share.progress import View
from pixcell_share.slides import SlideRecord
from pixcell_share.training.record import trained_here
from site_agent.clock import Clock
from site_agent.groups import Groups, conditioning_tiles
from site_agent.home import SiteConfig
from site_agent.inputs import UNLABELLED, patient_of
from site_agent.membership import check_membership
from site_agent.models import Models
from site_agent.run_folder import RunFolder, SlideState, inventory_digest
from site_agent.settings import SynthesisSettings
from site_agent.steps.accepted import Accepted
from site_agent.steps.auditing import Auditor
from site_agent.steps.checking import CheckedBlock, check_slides, final_image, released
from site_agent.steps.conditions import Promise, Source, promise_of
from site_agent.steps.generation import Block
from site_agent.steps.real_tiles import RealTiles

_CONTROLS = "control choice v1"
_ATTACKS = "attack choice v1"
_NEGATIVES = 64
_MEMBERS = 2000
_WEAK = 0.3
_FAINT = 0.5
_TOTALS = (10, 20, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500, 1000)


@dataclass(frozen=True, eq=False)
class Gathered:
    """Checked tiles, and what the attacks found."""

    inventory: str
    checked: Sequence[tuple[Block, CheckedBlock]]
    accepted: Accepted
    real: RealTiles
    evidence: Evidence
    sample: AuditSample | None
    """What the attacks compared; None where they could not be made."""
    weak: tuple[str, ...]
    """What the audit could not have noticed, in sentences."""
    seed: int


def gather(
    run: RunFolder,
    records: Sequence[SlideRecord],
    states: Sequence[SlideState],
    sources: Sequence[Source],
    groups: Groups,
    real: RealTiles,
    models: Models,
    config: SiteConfig,
    key: SiteKey,
    view: View,
    clock: Clock,
    *,
    seed: int = 0,
) -> Gathered:
    """Check every tile against all real ones, plant copies, and make the attacks."""
    inventory = inventory_digest(states, records, config.near_copies)
    index = real.near_copy_index(config.near_copies)
    checked = check_slides(run, inventory, sources, real, index, key, models, view, clock)
    accepted = Accepted.of(checked)
    patients = _patients(records, states, groups)
    tiles = _Synthetic(run, inventory, accepted)
    control = run_control(
        index, real.image, models.embed_one,
        seed=_seed(key, _CONTROLS, seed),
        other_tile=tiles.any if len(accepted) else None,
        holdout=_negatives(patients, len(groups.cohort), key, seed),
        patients=patients,
    )  # fmt: skip
    sample, why = None, ""
    try:
        sample, conditioned = (
            centred(
                Auditor(
                    run, inventory, records, states, groups, real, encoder, key, view, clock,
                    seed=seed,
                ).sample(accepted)
            )
            for encoder in (models.audit_encoder, models.conditioning_encoder)
        )  # fmt: skip
        attacks = _attack(sample, conditioned, _seed(key, _ATTACKS, seed))
    except AuditError as error:
        why = f"{error.cause}: {error.remedy}"
        attacks = dict.fromkeys(_ATTACKED)
    evidence = Evidence(
        near_copies=config.near_copies,
        pixel_ncc=released(checked, "pixel_ncc"),
        embedding_similarity=released(checked, "embedding_similarity"),
        control=control,
        facts=_facts(run, records, states, groups, key),
        membership=_membership(run, models, view, seed),
        **attacks,
    )
    weak = (
        *_weak(evidence, promise_of(sources), why),
        *_mistaken(control, lambda tile: patient_of(real.place(tile)[0])),
    )
    return Gathered(inventory, checked, accepted, real, evidence, sample, weak, seed)


_ATTACKED = (
    "encoder_control", "retrieval", "linkage", "conditioned_linkage", "copying", "authenticity",
    "closest",
)  # fmt: skip


def _attack(sample: AuditSample, conditioned: AuditSample, seed: int) -> dict[str, Any]:
    """Every attack on embeddings.

    Args:
        sample: in the audit's encoder.
        conditioned: the same tiles in the encoder that conditioned: it is public, and an attacker
            may use it as well.
        seed: of every random choice.

    Raises:
        AuditError: there is no control group, or nothing to attack.
    """
    return {
        "encoder_control": encoder_control(sample, seed=seed),
        "retrieval": retrieval(sample, seed=seed),
        "linkage": patient_linkage(sample, seed=seed),
        "conditioned_linkage": _stronger_linkage(conditioned, seed),
        "copying": data_copying(sample, seed=seed),
        "authenticity": authenticity(sample, seed=seed),
        "closest": closest_record(sample, seed=seed),
    }


def _stronger_linkage(sample: AuditSample, seed: int) -> Linkage:
    """The attack with and without whitening, whichever links more patients.

    Neither is always the stronger: whitening finds what is left of a source in the encoder's space
    (AUC 0.85 against 0.54, ``benchmarks/linkage.py``), and on tiles that ``nano`` drew the plain
    distances found more. Taking the larger of two errs on the side of refusing.
    """
    found = [
        patient_linkage(sample, seed=seed, settings=LinkageSettings(whiten=whiten))
        for whiten in (True, False)
    ]
    return max(found, key=lambda linkage: (linkage.residual.value, linkage.auc.value))


def _membership(run: RunFolder, models: Models, view: View, seed: int) -> Membership | None:
    if not run.settings.trained_on:
        return None
    return check_membership(
        models.in_full_precision(), run.settings.trained_on, limit=_MEMBERS, seed=seed, view=view,
        record=trained_here(run.settings.model),
    )  # fmt: skip


def require_stores(settings: SynthesisSettings) -> None:
    """Weights that were trained on a site's tiles may have memorised them: their stores are needed.

    Raises:
        SettingsError: the model's folder says that it was trained by ``pixcell-train``, and
            ``--trained-on`` does not name the stores.
    """
    if trained_here(settings.model) is not None and not settings.trained_on:
        raise SettingsError(
            f"{settings.model} was trained by `pixcell-train`, and may remember its tiles",
            "name the latent stores that it was trained on with --trained-on, so that the audit "
            "can test whether they show",
        )


class _Synthetic:
    """Synthetic tiles that are to be released, at random."""

    def __init__(self, run: RunFolder, inventory: str, accepted: Accepted) -> None:
        self._run = run
        self._inventory = inventory
        self._accepted = accepted

    def any(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """One of them (H, W, 3)."""
        place = int(rng.integers(len(self._accepted)))
        block, check = self._accepted.checked[int(self._accepted.block[place])]
        position = int(self._accepted.position[place])
        return final_image(self._run, self._inventory, block, check, position)


def _seed(key: SiteKey, purpose: str, seed: int) -> int:
    return int.from_bytes(key.derive(f"{purpose}|{seed}")[:4])


def _patients(
    records: Sequence[SlideRecord], states: Sequence[SlideState], groups: Groups
) -> NDArray[np.int64]:
    """(N,) number of the patient of every real tile of the run."""
    number = {name: place for place, name in enumerate(groups.patients)}
    used = [pair for pair in zip(records, states, strict=True) if pair[1].used]
    return np.repeat(
        np.array([number[patient_of(record)] for record, _ in used], np.int64),
        [state.tiles for _, state in used],
    )


def _negatives(patients: NDArray[np.int64], cohort: int, key: SiteKey, seed: int) -> list[int]:
    """Tiles of patients set aside, at random."""
    tiles = np.flatnonzero(patients >= cohort)
    rng = np.random.default_rng(_seed(key, "negatives v1", seed))
    chosen: list[int] = rng.permutation(tiles)[:_NEGATIVES].tolist()
    return chosen


def _facts(
    run: RunFolder,
    records: Sequence[SlideRecord],
    states: Sequence[SlideState],
    groups: Groups,
    key: SiteKey,
) -> CohortFacts:
    used = [pair for pair in zip(records, states, strict=True) if pair[1].used]
    cohort = {patient_of(r): r.label or UNLABELLED for r, _ in used if groups.conditions(r)}
    aside = {patient_of(record) for record, _ in used} - cohort.keys()
    sizes = Counter(cohort.values())
    tiles: Counter[str] = Counter()
    for record, state in used:
        if groups.conditions(record):
            chosen = conditioning_tiles(state, run.settings.max_tiles, key)
            tiles[patient_of(record)] += len(chosen)
    return CohortFacts(
        patients=len(cohort),
        holdout_patients=len(aside),
        classes=len(sizes),
        smallest_class=min(sizes.values(), default=0),
        mix=0 if run.settings.dp_epsilon is not None else run.settings.mix,
        tiles_per_patient=max(tiles.values(), default=0),
    )


def _patients_needed() -> int:
    """Patients in all, a fifth of them set aside, for an audit that notices `_WEAK`."""
    return next(
        total for total in _TOTALS
        if detectable_residual(total - total // 5, total // 5) <= _WEAK
    )  # fmt: skip


def _unnoticed(detectable: float) -> str:
    if detectable >= 1:
        return "even linking all of the patients to it"
    return f"linking fewer than {detectable:.0%} of the patients to it"


def _mistaken(control: ControlResult, owner: Callable[[int], str]) -> Iterator[str]:
    """Which patients were taken for each other; ``owner`` names the patient of a real tile."""
    pairs = Counter((owner(aside), owner(other)) for aside, other in control.mistaken)
    for (aside, other), count in sorted(pairs.items()):
        yield (
            f"{count} tile{'s' if count > 1 else ''} of {aside}, set aside, would pass for a copy "
            f"of a tile of {other}: if they are one patient, give their slides one case_id."
        )


def _weak(evidence: Evidence, promise: Promise | None, why: str) -> tuple[str, ...]:
    """What a reader must know about the power of this audit, and about what noise has left."""
    found = [why] if why else []
    linkage, facts = evidence.linkage, evidence.facts
    if linkage is not None and linkage.detectable > _WEAK:
        found.append(
            f"With {facts.patients} patients in the cohort and {facts.holdout_patients} set "
            f"aside, {_unnoticed(linkage.detectable)} would have gone unnoticed; to notice "
            f"{_WEAK:.0%} takes about {_patients_needed()} patients in all."
        )
    if promise is not None and not promise.directions:
        found.append(
            "With this epsilon and this many patients all tiles of a class are drawn from one and "
            "the same condition: they differ by their noise alone."
        )
    if promise is not None and promise.class_signal < _FAINT:
        found.append(
            "The noise of this epsilon hides what tells the classes apart: labels of the "
            "synthetic tiles mean little. More patients, or a larger epsilon, would help."
        )
    return tuple(found)
