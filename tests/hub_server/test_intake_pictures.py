"""What the hub notices about tiles, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import hub_server.intake
from hub_server.intake import IntakeSettings, Reason
from hub_server.intake.pictures import Album, PictureFacts, check_pictures
from pixcell_share.bundles import Fault
from pixcell_share.bundles._confined.look import LOOK, look_at
from pixcell_share.errors import FormatError, SettingsError

PX = 64


def textures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, PX, PX, 3) smooth random fields, as tissue is smooth."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(40, 216, (count, 9, 9, 3)).astype(np.float32)
    at = np.linspace(0, 8, PX, endpoint=False)
    low, part = at.astype(int), (at % 1)[:, None, None]
    rows = coarse[:, low] * (1 - part) + coarse[:, low + 1] * part
    part = part.reshape(1, 1, PX, 1)
    return (rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part).astype(np.uint8)


def seen(*groups: NDArray[np.uint8]) -> PictureFacts:
    album = Album(sum(map(len, groups)))
    for tiles in groups:
        looks = np.empty(len(tiles), LOOK)
        look_at(tiles, looks)
        album.add(looks)
    return album.facts()


def test_good_tiles_are_nothing_special() -> None:
    facts = seen(textures(200), textures(200, seed=1))
    assert facts == PictureFacts(400, 0, 0, 0, 0, facts.low, facts.high)
    check_pictures(facts, IntakeSettings())


def test_repeats_are_found_across_shards() -> None:
    tiles = textures(20)
    assert seen(tiles, tiles[:7]).repeated == 7


@pytest.mark.parametrize("change", ["brighter", "one grey level of noise"])
def test_slightly_changed_copies_look_alike(change: str) -> None:
    tiles = textures(100)
    noise = np.random.default_rng(5).integers(0, 2, tiles.shape)
    copies = (tiles + (20 if change == "brighter" else noise)).astype(np.uint8)
    facts = seen(tiles, copies)
    assert facts.repeated == 0
    assert facts.alike >= 150


def test_mirrored_copies_do_not_look_alike() -> None:
    """A limit that the documentation names."""
    tiles = textures(50)
    assert seen(tiles, tiles[:, :, ::-1]).alike == 0


def test_blank_and_constant_tiles_are_counted_and_not_taken_for_copies() -> None:
    glass = np.random.default_rng(2).integers(238, 243, (10, PX, PX, 3)).astype(np.uint8)
    plain = (
        np.full((5, PX, PX, 3), 90, np.uint8) + np.arange(5, dtype=np.uint8)[:, None, None, None]
    )
    facts = seen(textures(20), glass, plain)
    assert (facts.blank, facts.constant, facts.alike) == (10, 5, 0)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"constant": 2}, Reason.PICTURES_CONSTANT),
        ({"blank": 26}, Reason.PICTURES_BLANK),
        ({"repeated": 2}, Reason.PICTURES_REPEATED),
        ({"alike": 26}, Reason.PICTURES_ALIKE),
        ({"high": 31}, Reason.PICTURES_OUT_OF_RANGE),
    ],
)
def test_limits(found: dict[str, int], reason: Reason) -> None:
    good = {"tiles": 100, "constant": 1, "blank": 25, "repeated": 1, "alike": 25, "low": 0}
    check_pictures(PictureFacts(**good, high=32), IntakeSettings())
    with pytest.raises(FormatError) as caught:
        check_pictures(PictureFacts(**{**good, "high": 32, **found}), IntakeSettings())
    assert caught.value.reason == reason


@pytest.mark.parametrize("wrong", [{"blank_share": 1.1}, {"tiles": 0}, {"key_days": float("nan")}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        IntakeSettings(**wrong)  # type: ignore[arg-type]


def test_every_fault_of_a_bundle_is_a_reason_of_the_hub() -> None:
    assert {str(fault) for fault in Fault} <= {str(reason) for reason in Reason}
    assert all(reason.sentence.endswith(".") for reason in Reason)
    assert all(reason.value == reason.name.lower() for reason in Reason)


def test_exports_are_pinned() -> None:
    assert hub_server.intake.__all__ == [
        "CanonicalFile",
        "CanonicalShard",
        "IntakeOutcome",
        "IntakeSettings",
        "Reason",
        "VerificationSummary",
        "check_stored_files",
        "check_summary",
        "files_of",
        "finish_withdrawals",
        "intake_folder",
        "intake_upload",
        "open_shards",
        "resume",
        "withdraw",
    ]
