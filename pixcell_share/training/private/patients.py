"""Whose tiles the stores hold: the units of the guarantee."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from pixcell_share.errors import SettingsError
from pixcell_share.training.latents import Address, IndexRow, Source


@dataclass(frozen=True)
class Patients:
    """The patients of some stores, and where their regions are."""

    names: tuple[str, ...]
    """In order. A patient of two stores is one."""
    rows: tuple[tuple[Address, ...], ...]
    """The training regions of each."""

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, sources: Sequence[Source]) -> Patients:
        """Read the stores' indexes.

        Raises:
            SettingsError: a store does not say whose a region is, or is to be gone through more
                than once.
            DataError: an index is damaged.
        """
        found: dict[str, list[Address]] = {}
        for number, source in enumerate(sources):
            for row, entry in enumerate(_index(source)):
                # Two spellings of one name would be two units of half the protection.
                name = unicodedata.normalize("NFC", entry.case.strip())
                found.setdefault(name, []).append(Address(number, row))
        names = tuple(sorted(found))
        if not names:
            raise SettingsError("the stores hold no region to train on", "name other --latents")
        return cls(names, tuple(tuple(found[name]) for name in names))


def _index(source: Source) -> list[IndexRow]:
    folder = source.store.folder
    if source.repeat != 1:
        raise SettingsError(
            f"{folder} is to be gone through {source.repeat} times, and patients are drawn alike",
            "leave :REPEAT out of --latents",
        )
    index = source.store.index("train")
    nameless = sum(not entry.case.strip() for entry in index)
    if nameless:
        raise SettingsError(
            f"{folder} does not say whose {nameless} of its {len(index)} regions are, and the "
            "patient is the unit of the guarantee",
            "make the store again with a --table that names each slide's patient (case_id; for "
            "pictures: case)",
        )
    return index
