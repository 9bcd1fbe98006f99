"""Pictures that are none, and tiles and bundles that the hub has seen before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hub_server.intake import Reason
from pixcell_share.bundles import SiteKey
from tests.bundles.forging import TILE_PX, make_tiles
from tests.bundles.hostile_corpus.case import Case, Spoil
from tests.bundles.hostile_corpus.good import Tile, changed_audit, write_good
from tests.bundles.hostile_corpus.keys import SITES, make_key
from tests.bundles.hostile_shards import COUNT

_TILE = (TILE_PX, TILE_PX, 3)
_AFTER_GOOD: tuple[dict[str, str], ...] = ({"accept": "good"},)
_AFTER_WITHDRAWAL = (*_AFTER_GOOD, {"withdraw": "good"})


def cases() -> list[Case]:
    """All of them."""
    return [*_PICTURES, *_REPEATS, *_REPLAYS]


def _rewritten(tiles: Callable[[], list[Tile]], **more: Any) -> Spoil:
    """A bundle that a member makes of whatever tiles."""

    def spoil(folder: Path, key: SiteKey) -> None:
        shutil.rmtree(folder)
        write_good(folder, key, tiles=tiles(), **more)

    return spoil


def _changed(change: Callable[[int, np.ndarray], np.ndarray]) -> Spoil:
    """Every tile changed; the first argument is its place."""

    def tiles() -> list[Tile]:
        return [(change(i, image), label) for i, (image, label) in enumerate(make_tiles(COUNT, 7))]

    return _rewritten(tiles)


def _noisy_copies() -> list[Tile]:
    """One smooth tile with another single grey level of noise in each copy."""
    chance = np.random.default_rng(3)
    rows, columns = np.mgrid[0:TILE_PX, 0:TILE_PX]
    base = 120 + 60 * np.sin(rows / 3) * np.cos(columns / 5)
    base = np.repeat(base[..., None], 3, axis=2)
    noise = chance.integers(0, 2, (COUNT, *_TILE))
    return [((base + n).astype(np.uint8), i % 2) for i, n in enumerate(noise)]


def _good_tiles() -> list[Tile]:
    return list(make_tiles(COUNT))


_PICTURES = (
    Case(
        *("constant_tiles", Reason.PICTURES_CONSTANT),
        "Every second tile is of one colour.",
        _changed(lambda i, image: np.full_like(image, 40 * i) if i % 2 else image),
    ),
    Case(
        *("blank_tiles", Reason.PICTURES_BLANK),
        "Every second tile is glass.",
        _changed(lambda i, image: (236 + image // 64).astype(np.uint8) if i % 2 else image),
    ),
    Case(
        *("tiles_in_unit_range", Reason.PICTURES_OUT_OF_RANGE),
        "Pixels from 0 to 1, as integers: black.",
        _changed(lambda _, image: image // 128),
    ),
    Case(
        *("repeated_tiles", Reason.PICTURES_REPEATED),
        "Two tiles, three times each.",
        _rewritten(lambda: list(make_tiles(2, 8)) * 3),
    ),
    Case(
        *("duplicate_shards", Reason.PICTURES_REPEATED),
        "The second shard is a copy of the first.",
        _rewritten(lambda: list(make_tiles(COUNT, 9)) * 2, shard_bytes=85_000),
    ),
    Case(
        *("noisy_copies", Reason.PICTURES_ALIKE),
        "One tile, with other noise in each copy.",
        _rewritten(_noisy_copies),
    ),
)
_REPEATS = (
    Case(
        *("tiles_of_another_site", Reason.PICTURES_OF_ANOTHER_SITE),
        "A member sends another member's accepted tiles as its own.",
        lambda folder, _key: _by_other(folder, _good_tiles()[::-1]),
        before=_AFTER_GOOD,
        signer="other",
    ),
    Case(
        *("old_tiles_in_another_order", Reason.PICTURES_HELD_ALREADY),
        "The tiles of an accepted cohort in another order, signed as a new one.",
        _rewritten(lambda: _good_tiles()[::-1]),
        before=_AFTER_GOOD,
    ),
    Case(
        *("withdrawn_tiles_in_another_order", Reason.PICTURES_WITHDRAWN),
        "The tiles of a withdrawn cohort in another order, signed as a new one.",
        _rewritten(lambda: _good_tiles()[::-1]),
        before=_AFTER_WITHDRAWAL,
    ),
)
_REPLAYS = (
    Case(
        *("replay", Reason.REPLAYED),
        "An accepted bundle comes again, to the last byte.",
        before=_AFTER_GOOD,
    ),
    Case(
        *("replay_of_a_withdrawn_bundle", Reason.REPLAYED),
        "A withdrawn bundle comes back.",
        before=_AFTER_WITHDRAWAL,
    ),
    Case(
        *("rollback_to_withdrawn_shards", Reason.SHARDS_WITHDRAWN),
        "The shards of a withdrawn bundle come back under a new manifest.",
        _rewritten(_good_tiles, audit=changed_audit("near_copies", checked=6)),
        before=_AFTER_WITHDRAWAL,
    ),
    Case(
        *("new_audit_for_old_shards", Reason.SHARDS_HELD_ALREADY),
        "The shards of an accepted bundle come with another audit.",
        _rewritten(_good_tiles, audit=changed_audit("near_copies", checked=6)),
        before=_AFTER_GOOD,
    ),
    Case(
        *("old_shards_of_another_site", Reason.SHARDS_HELD_ALREADY),
        "A member signs the shards of another member's accepted bundle.",
        lambda folder, _key: _by_other(folder, _good_tiles()),
        before=_AFTER_GOOD,
        signer="other",
    ),
    Case(
        *("sent_by_another_site", Reason.SENT_BY_ANOTHER_SITE),
        "A member uploads a bundle that another member signed.",
        sender="other",
    ),
)


def _by_other(folder: Path, tiles: list[Tile]) -> None:
    shutil.rmtree(folder)
    write_good(folder, make_key("other"), tiles=tiles, site=SITES["other"])
