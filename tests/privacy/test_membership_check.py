"""A site asks its own weights: stores in, curves out; and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.errors import DataError, SettingsError, WeightsMismatchError
from pixcell_share.pixcell import PixCell
from pixcell_share.privacy.membership_scores import MembershipSettings
from pixcell_share.training.latents import IndexRow, LatentStore, StoreInfo, StoreWriter
from pixcell_share.training.record import TrainedStore, TrainingRecord
from site_agent.membership import _regions, _spread, check_membership
from tests.privacy.membership_models import (
    TILE_PX,
    Group,
    learn_by_heart,
    load,
    make_group,
)
from tests.tiny import DIM

QUICK = MembershipSettings(timesteps=(100, 300), noises=2)


class Quiet:
    """A view that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = self.total = 0

    @contextmanager
    def stage(self, name: str, total: int, unit: str, done: int = 0) -> Iterator:
        self.total += total
        yield self._advance

    def _advance(self, count: int) -> None:
        self.done += count

    def say(self, text: str) -> None:
        self.lines.append(text)


def write_store(
    folder: Path, model: PixCell, train: Group, holdout: Group, *, grid: int = 1, **changes
) -> Path:
    """A store of these tiles; with a grid of 2 each stands in all four places of a region."""
    info = StoreInfo(
        region_px=TILE_PX * grid, grid=grid, mpp=0.5, latent_channels=16, latent_side=8 * grid,
        embedding_dim=DIM, scaling_factor=model.codec.scale, shift_factor=model.codec.shift,
        vae={"sha256": "v"}, encoder={"sha256": "e"}, vae_source="nano", encoder_source="nano",
        encoder_weights=None, shard_rows=9,
    )  # fmt: skip
    with StoreWriter(folder, replace(info, **changes)) as writer:
        for split, group in (("train", train), ("holdout", holdout)):
            for row, patient in enumerate(group.patients):
                latents = np.tile(group.latents[row], (1, grid, grid))
                embeddings = np.tile(group.embeddings[row], (grid**2, 1))
                about = IndexRow(f"slide-{split}-{row}", case=f"case-{patient}")
                writer.add(split, latents, embeddings, about)
        writer.finish()
    return folder


@pytest.fixture(scope="module")
def members() -> Group:
    return make_group(1)


@pytest.fixture(scope="module")
def others() -> Group:
    return make_group(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny") / "model"


@pytest.fixture(scope="module")
def learned(folder: Path, members: Group) -> PixCell:
    model = load(folder)
    learn_by_heart(model, members)
    return model


@pytest.fixture(scope="module")
def store(folder, learned, members, others) -> Path:
    return write_store(folder.parent / "store", learned, members, others)


def check(model: PixCell, *stores: Path, limit: int = 100, **more):
    view = more.pop("view", Quiet())
    return check_membership(model, stores, limit=limit, seed=0, view=view, settings=QUICK, **more)


def test_weights_that_learned_by_heart_are_found(learned, store) -> None:
    view = Quiet()
    found = check(learned, store, view=view)
    assert (found.members, found.member_patients) == (24, 6)
    assert (found.nonmembers, found.nonmember_patients) == (24, 6)
    assert found.clid.auc.low > 0.85
    assert view.done == view.total == 48


def test_weights_that_saw_nothing_are_not_accused(learned, folder, tmp_path) -> None:
    many = make_group(5, count=160), make_group(6, count=160)
    place = write_store(tmp_path / "many", learned, *many)
    untrained = check(load(folder), place, limit=160)
    for curve in (untrained.loss, untrained.clid):
        assert curve.auc.low < 0.5 < curve.auc.high
    assert untrained.member_patients == 40


def test_the_same_seed_gives_the_same_result(learned, store) -> None:
    assert check(learned, store, limit=10) == check(learned, store, limit=10)


def test_regions_larger_than_a_tile_are_cut_as_in_training(
    learned, members, others, store, tmp_path
) -> None:
    """Every place holds the same tile here, so the scores are those of the small regions."""
    large = write_store(tmp_path / "large", learned, members, others, grid=2)
    assert check(learned, large) == check(learned, store)


def test_a_limit_is_spread_over_patients(store) -> None:
    regions = _regions([LatentStore.open(store)], "train")
    chosen = _spread(regions, 8, seed=0)
    counts = np.unique([region.patient for region in chosen], return_counts=True)[1]
    assert sorted(counts) == [1, 1, 1, 1, 2, 2]
    assert len(set(chosen)) == 8
    assert chosen != _spread(regions, 8, seed=1)


def test_a_region_counts_once_whatever_its_turns(learned, members, others, tmp_path) -> None:
    place = write_store(tmp_path / "turned", learned, members, others)
    for path in place.glob("train-*.csv"):
        lines = path.read_text().splitlines()
        half = [line.replace(",0,", ",3,") if n % 2 else line for n, line in enumerate(lines)]
        path.write_text("\n".join([lines[0], *half[1:]]) + "\n")
    turned = [entry.turn for entry in LatentStore.open(place).index("train")]
    assert check(learned, place).members == turned.count("0") < 24


def test_two_stores_are_one_group(learned, members, others, store, tmp_path) -> None:
    more = write_store(tmp_path / "more", learned, make_group(3), make_group(4))
    found = check(learned, store, more)
    assert (found.members, found.member_patients, found.nonmember_patients) == (48, 12, 12)


def test_a_store_of_other_models_is_refused(learned, members, others, tmp_path) -> None:
    for number, change in enumerate([{"scaling_factor": 2.0}, {"shift_factor": 0.4}]):
        place = write_store(tmp_path / str(number), learned, members, others, **change)
        with pytest.raises(WeightsMismatchError, match=next(iter(change))):
            check(learned, place)
    narrow = replace(members, embeddings=members.embeddings[..., :20])
    place = write_store(tmp_path / "narrow", learned, narrow, narrow, embedding_dim=20)
    with pytest.raises(WeightsMismatchError, match="length 20"):
        check(learned, place)


def test_nothing_to_compare_is_refused(learned, members, tmp_path) -> None:
    nobody = Group(members.latents[:0], members.embeddings[:0], members.patients[:0])
    place = write_store(tmp_path / "whole", learned, members, nobody)
    with pytest.raises(SettingsError, match="no region held out"):
        check(learned, place)
    with pytest.raises(SettingsError, match="no store"):
        check(learned)
    with pytest.raises(SettingsError, match="there is no latent store"):
        check(learned, tmp_path)
    with pytest.raises(SettingsError, match="limit"):
        check(learned, place, limit=0)


def test_a_held_out_patient_who_was_trained_on_is_refused(
    learned, members, others, tmp_path
) -> None:
    mixed = replace(others, patients=np.where(others.patients == 2000, 1000, others.patients))
    place = write_store(tmp_path / "mixed", learned, members, mixed)
    with pytest.raises(DataError, match="1 patients"):
        check(learned, place, limit=2)


def test_numbers_that_are_not_finite_are_refused(learned, members, others, tmp_path) -> None:
    bad = replace(others, latents=np.where(np.arange(24)[:, None, None, None] == 11, np.nan,
                                           others.latents).astype(np.float16))  # fmt: skip
    place = write_store(tmp_path / "bad", learned, members, bad)
    with pytest.raises(DataError, match="shard holdout-00001, row 2"):
        check(learned, place)


def record_of(*folders: Path) -> TrainingRecord:
    return TrainingRecord(tuple(TrainedStore.of(LatentStore.open(folder)) for folder in folders))


def test_the_stores_have_to_be_those_of_the_record(
    learned, members, others, store, tmp_path
) -> None:
    more = write_store(tmp_path / "more", learned, make_group(3), others)
    both = record_of(store, more)
    assert check(learned, store, more, record=both).members == 48
    with pytest.raises(SettingsError, match="24 regions of 6 patients"):
        check(learned, store, record=both)
    with pytest.raises(SettingsError, match="was not trained on"):
        check(learned, store, more, record=record_of(store))
    with pytest.raises(SettingsError, match="does not say"):
        check(learned, store, record=TrainingRecord(()))


def test_an_earlier_stage_of_smaller_regions_is_named_as_untested(learned, store) -> None:
    (known,) = record_of(store).stores
    earlier = replace(known, rows_sha256="0" * 64, region_px=TILE_PX // 2)
    view = Quiet()
    check(learned, store, record=TrainingRecord((earlier, known)), view=view)
    assert len(view.lines) == 1 and "not tested" in view.lines[0]
