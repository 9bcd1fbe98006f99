"""The limits of the gate; apart from it, since they are read where nothing is measured."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pixcell_share.errors import SettingsError


@dataclass(frozen=True)
class GateLimits:
    """``[limits]`` of ``site.toml``: what a release must not pass. Stricter is always allowed."""

    patients: int = 5
    """Least number of patients who condition the cohort."""

    class_patients: int = 3
    """Least number of patients of each class: fewer, and the class says something about them."""

    retrieval_excess: float = 0.1
    """How much more often a synthetic tile leads to its own source tile, at rank 1 in the audit's
    encoder, than to a tile of another patient in its place."""

    linkage_residual: float = 0.1
    """Share of the patients whom an attacker with other tiles of theirs links to the cohort,
    beyond the share of patients set aside for whom the same attack claims it."""

    linkage_detectable: float = 1.0
    """Largest residual that may have gone unnoticed, given the number of patients. 1 lets small
    cohorts pass with a weak test, and the report says so; 0.3 demands about 60 patients."""

    membership_tpr: float = 0.05
    """True positives at 1 % false positives, for weights trained on the site's own tiles."""

    c_t: float | None = None
    """Least C_T. Its size grows with the number of tiles, so no default suits all cohorts."""

    nearer: float | None = None
    """Largest share of synthetic tiles that are nearer to the cohort than to patients set aside."""

    def __post_init__(self) -> None:
        """Refuse limits that cannot be.

        Raises:
            SettingsError: an entry is of another type or out of range.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            low, high = _RANGES.get(field.name, (0.0, 1.0))
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise SettingsError(
                    f"limits: {field.name} = {value!r} is not between {low:g} and {high:g}",
                    "leave it out for the default",
                )


_RANGES = {"patients": (1, 1e6), "class_patients": (1, 1e6), "c_t": (-1e6, 0.0)}
