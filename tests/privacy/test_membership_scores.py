"""The scores against the trainer's own objective, and on a model that learned tiles by heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pixcell_share.errors import PixcellError, SettingsError, WeightsMismatchError
from pixcell_share.pixcell import PixCell
from pixcell_share.privacy.membership import infer_membership
from pixcell_share.privacy.membership_scores import (
    MembershipScores,
    MembershipSettings,
    membership_scores,
)
from pixcell_share.training.batch import Batch
from pixcell_share.training.objective import DiffusionObjective, ObjectiveSettings
from tests.privacy.membership_models import Group, learn_by_heart, load, make_group, predicting

QUICK = MembershipSettings(timesteps=(100, 400), noises=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny") / "model"


@pytest.fixture(scope="module")
def fresh(folder: Path) -> PixCell:
    """Untrained."""
    return load(folder)


@pytest.fixture(scope="module")
def group() -> Group:
    return make_group(1)


def score(model: PixCell, group: Group, settings: MembershipSettings = QUICK) -> MembershipScores:
    return membership_scores(model, group.latents, group.embeddings, settings=settings)


def test_an_overfitted_model_tells_its_tiles_and_an_untrained_one_does_not(fresh, folder) -> None:
    learned, members = load(folder), make_group(1)
    learn_by_heart(learned, members)

    def attack(model: PixCell, settings: MembershipSettings, *groups: Group):
        mine, theirs = (score(model, group, settings) for group in groups)
        patients = [group.patients for group in groups]
        return infer_membership(mine, patients[0], theirs, patients[1], seed=0)

    found = attack(learned, MembershipSettings(), members, make_group(2))
    # An interval of six patients is too narrow to ask for coverage: forty, and less noise.
    control = attack(fresh, QUICK, make_group(5, count=160), make_group(6, count=160))
    assert found.loss.auc.low > 0.7
    assert found.clid.auc.low > 0.9
    assert found.clid.tpr_1.low > 0.3
    for curve in (control.loss, control.clid):
        assert curve.auc.low < 0.5 < curve.auc.high


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_that_of_the_trainer_in_units_of_noise(folder, group, prediction) -> None:
    model = predicting(load(folder), prediction)
    (timestep,) = timesteps = (300,)
    settings = MembershipSettings(timesteps, noises=1, seed=5)
    found = score(model, group, settings)
    shape = group.latents.shape[1:]
    streams = [np.random.Generator(np.random.Philox(key=np.array([5, row], np.uint64)))
               for row in range(len(group.latents))]  # fmt: skip
    noise = np.stack([stream.standard_normal(shape, np.float32) for stream in streams])
    objective = DiffusionObjective(ObjectiveSettings(prediction, learned_variance=False))
    kept = float(model.new_scheduler().alphas_cumprod[timestep])
    # x_t is known, so an error e of the velocity is one of sqrt(kept) e of the noise.
    units = kept if prediction == "v_prediction" else 1.0
    expected = [
        units * objective(model.transformer, _batch(model, group, noise, timestep, dropped))
        .per_sample.numpy() for dropped in (False, True)
    ]  # fmt: skip
    assert found.loss == pytest.approx(expected[0], rel=1e-4)
    assert found.gain == pytest.approx(expected[1] - expected[0], abs=1e-5)
    assert abs(found.gain).max() > 1e-4


def _batch(model: PixCell, group: Group, noise: np.ndarray, timestep: int, dropped: bool) -> Batch:
    count = len(noise)
    raw = torch.from_numpy(group.latents.astype(np.float32))
    return Batch(
        latents=(raw - model.codec.shift) * model.codec.scale,
        condition=torch.from_numpy(group.embeddings.astype(np.float32)),
        noise=torch.from_numpy(noise),
        timesteps=torch.full((count,), timestep),
        dropped=torch.full((count,), dropped),
        weights=torch.ones(count),
        positions=torch.arange(count),
    )


def test_a_perfect_prediction_has_no_loss(folder, group) -> None:
    """Of the noise and of the velocity, from the same latents: both count the noise's error."""
    for prediction in ("epsilon", "v_prediction"):
        model = predicting(load(folder), prediction)
        model.transformer.forward = _Oracle(model, group, prediction)
        found = score(model, group, MembershipSettings((1, 300, 900), 2, batch_size=24))
        assert found.loss == pytest.approx(0, abs=1e-6)


class _Oracle:
    """Knows the clean latents of all tiles in their order, so it knows the noise."""

    def __init__(self, model: PixCell, group: Group, prediction: str) -> None:
        raw = torch.from_numpy(group.latents.astype(np.float32))
        self.clean = (raw - model.codec.shift) * model.codec.scale
        self.kept = model.new_scheduler().alphas_cumprod.double()
        self.velocity = prediction == "v_prediction"

    def __call__(self, noisy, condition, times, return_dict):
        clean = torch.cat([self.clean, self.clean]).double()
        kept = self.kept[times][:, None, None, None]
        noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        return (torch.cat([velocity if self.velocity else noise, torch.zeros_like(noise)], 1),)


def test_scores_depend_on_rows_not_on_batches_or_neighbours(fresh, group) -> None:
    whole = score(fresh, group)
    small = score(fresh, group, MembershipSettings((100, 400), noises=2, batch_size=5))
    assert small.loss == pytest.approx(whole.loss, rel=1e-5)
    rows = np.array([7, 3])
    some = membership_scores(
        fresh, group.latents[rows], group.embeddings[rows], rows=rows, settings=QUICK
    )
    assert some.loss == pytest.approx(whole.loss[rows], rel=1e-5)
    assert some.gain == pytest.approx(whole.gain[rows], abs=1e-6)
    shifted = membership_scores(fresh, group.latents[:2], group.embeddings[:2], rows=rows,
                                settings=QUICK)  # fmt: skip
    assert abs(shifted.loss - whole.loss[:2]).min() > 1e-6


def test_without_an_effect_of_the_condition_there_is_no_gain(folder, group) -> None:
    model = load(folder)
    with torch.no_grad():
        for block in model.transformer.transformer_blocks:
            block.attn2.to_out[0].weight.zero_()
            block.attn2.to_out[0].bias.zero_()
    assert abs(score(model, group).gain).max() < 1e-6


def test_a_grid_of_embeddings_is_scored(tmp_path) -> None:
    from tests.tiny import make_tiny_model

    folder = make_tiny_model(tmp_path / "grid", tile_px=64, tokens=4)
    model, rng = PixCell.from_pretrained(str(folder)), np.random.default_rng(0)
    latents = rng.normal(size=(3, 16, 8, 8)).astype(np.float32)
    embeddings = rng.normal(size=(3, 4, model.embedding_dim)).astype(np.float32)
    found = membership_scores(model, latents, embeddings, settings=QUICK)
    assert len(found) == 3 and np.isfinite(found.loss).all() and abs(found.gain).max() > 0


def test_portions_join_to_the_whole(fresh, group) -> None:
    whole = score(fresh, group)
    parts = [
        membership_scores(fresh, group.latents[part], group.embeddings[part], settings=QUICK,
                          rows=np.arange(24)[part]) for part in (slice(0, 10), slice(10, 24))
    ]  # fmt: skip
    joined = MembershipScores.join(parts)
    assert joined.loss == pytest.approx(whole.loss, rel=1e-5)
    assert len(membership_scores(fresh, group.latents[:0], group.embeddings[:0])) == 0


def test_bad_input_is_refused(fresh, folder, group) -> None:
    latents, embeddings = group.latents, group.embeddings
    with pytest.raises(WeightsMismatchError, match="latents"):
        membership_scores(fresh, latents[:, :8], embeddings)
    with pytest.raises(WeightsMismatchError, match="latents"):
        membership_scores(fresh, latents[:3], embeddings)
    with pytest.raises(WeightsMismatchError):
        membership_scores(fresh, latents, embeddings[..., :20])
    with pytest.raises(SettingsError, match="NaN"):
        membership_scores(fresh, np.full_like(latents, np.nan), embeddings)
    with pytest.raises(SettingsError, match="beyond"):
        score(fresh, group, MembershipSettings(timesteps=(1000,)))
    with pytest.raises(SettingsError, match="predicts sample"):
        score(predicting(load(folder), "sample"), group)
    broken = load(folder)
    with torch.no_grad():
        broken.transformer.proj_out.bias.fill_(torch.inf)
    with pytest.raises(PixcellError, match="not finite"):
        score(broken, group)


@pytest.mark.parametrize("wrong", [{"timesteps": ()}, {"noises": 0}, {"timesteps": (-1,)}], ids=str)
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(SettingsError):
        MembershipSettings(**wrong)
