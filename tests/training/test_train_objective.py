"""The objective against diffusers' scheduler, torch's distributions and a numeric integral."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from scipy import integrate, stats
from torch import Tensor

from pixcell_share.errors import SettingsError
from pixcell_share.training.batch import Batch
from pixcell_share.training.diffusion import (
    Diffusion,
    Gaussian,
    bits,
    discretised_nll,
    kl_divergence,
)
from pixcell_share.training.objective import DiffusionObjective, ObjectiveSettings, conditions
from pixcell_share.training.stages import preset
from pixcell_share.training.start import build_model

TIMES = torch.tensor([0, 1, 17, 250, 500, 998, 999])
DIM = 24


def scheduler(prediction: str = "epsilon") -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type=prediction,
        clip_sample=False,
        variance_type="learned_range",
    )


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_batch(count: int = 4, stage: int = 256, **changes: Tensor) -> Batch:
    side = stage // 8
    batch = Batch(
        latents=random(count, 16, side, side, seed=1),
        condition=random(count, (stage // 256) ** 2, DIM, seed=2),
        noise=random(count, 16, side, side, seed=3),
        timesteps=torch.linspace(0, 999, count).long(),
        dropped=torch.zeros(count, dtype=torch.bool),
        weights=torch.ones(count),
        positions=torch.arange(count),
    )
    return replace(batch, **changes)


class Fixed(torch.nn.Module):
    """A model whose output is given."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = torch.nn.Parameter(output)

    def null_embedding(self, batch: int) -> Tensor:
        return torch.zeros(batch, 1, DIM)

    def forward(self, *_: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (self.output,)


@pytest.fixture
def model():
    return build_model(preset("tiny", 256), DIM, 16)


def test_noising_and_velocity_are_those_of_diffusers() -> None:
    clean, noise = random(7, 16, 4, 4), random(7, 16, 4, 4, seed=1)
    ours, theirs = Diffusion(), scheduler()
    noisy = ours.add_noise(clean, noise, TIMES)
    torch.testing.assert_close(noisy, theirs.add_noise(clean, noise, TIMES))
    velocity = ours.velocity(clean, noise, TIMES)
    torch.testing.assert_close(velocity, theirs.get_velocity(clean, noise, TIMES))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_posterior_mean_is_that_of_a_step_of_diffusers(prediction, monkeypatch) -> None:
    monkeypatch.setattr(  # a step without fresh noise gives the mean
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda shape, **_: torch.zeros(shape)
    )
    noisy, output = random(1, 2, 4, 4), random(1, 2, 4, 4, seed=1)
    ours, theirs = Diffusion(), scheduler(prediction)
    guess = ours.clean_from_noise if prediction == "epsilon" else ours.clean_from_velocity
    for time in (0, 1, 20, 500, 999):
        at = torch.tensor([time])
        mean = ours.posterior(guess(noisy, output, at), noisy, at).mean
        expected = theirs.step(torch.cat([output, output], 1), time, noisy).prev_sample
        size = float(expected.abs().max())
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-4 * size)


def test_the_learned_variance_is_that_of_diffusers() -> None:
    learned = random(1, 16, 4, 4)
    for time in (1, 2, 300, 999):  # at 0 diffusers takes log 1e-20, the paper that of step 1
        expected = scheduler()._get_variance(time, learned, "learned_range")
        ours = Diffusion().log_variance(learned, torch.tensor([time]))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_range_of_the_first_step_starts_at_the_posterior_of_the_second() -> None:
    diffusion, zero, one = Diffusion(), torch.tensor([0]), torch.tensor([1])
    low = torch.full((1, 1, 1, 1), -1.0)
    assert diffusion.log_variance(low, zero) == diffusion.log_variance(low, one)
    assert float(diffusion.log_variance(-low, zero)) == pytest.approx(math.log(1e-4))


def test_divergence_is_that_of_torch() -> None:
    p = Gaussian(random(3, 4), random(3, 4, seed=1))
    q = Gaussian(random(3, 4, seed=2), random(3, 4, seed=3))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(p.mean, (0.5 * p.log_variance).exp()),
        torch.distributions.Normal(q.mean, (0.5 * q.log_variance).exp()),
    )
    torch.testing.assert_close(kl_divergence(p, q), expected)


@pytest.mark.parametrize("value", [-3.0, -0.5, 0.0, 0.25, 1.5])
@pytest.mark.parametrize("mean", [-0.6, 0.2, 1.4])
@pytest.mark.parametrize("deviation", [0.3, 2.0])
def test_the_last_step_is_the_probability_of_a_bin(value, mean, deviation) -> None:
    low = -math.inf if value < -0.999 else value - 1 / 255
    high = math.inf if value > 0.999 else value + 1 / 255
    density = stats.norm(mean, deviation).pdf
    chance, _ = integrate.quad(density, low, high, points=None)
    given = Gaussian(torch.tensor([mean]), torch.tensor([2 * math.log(deviation)]))
    found = discretised_nll(torch.tensor([value]), given)
    assert float(found) == pytest.approx(-math.log(chance), rel=1e-3)


def test_the_last_step_stays_finite_far_from_the_data() -> None:
    spread = torch.full((2,), math.log(1e-4), requires_grad=True)
    loss = discretised_nll(torch.tensor([0.0, 0.5]), Gaussian(torch.tensor([5.0, -9.0]), spread))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(spread.grad).all()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_costs_nothing_but_the_variance(prediction: str) -> None:
    batch = make_batch(timesteps=torch.tensor([1, 10, 500, 999]))
    settings = ObjectiveSettings(prediction, learned_variance=True)
    target = batch.noise
    if prediction == "v_prediction":
        target = scheduler().get_velocity(batch.latents, batch.noise, batch.timesteps)
    least = torch.full_like(target, -1.0)  # the posterior's own variance
    losses = DiffusionObjective(settings)(Fixed(torch.cat([target, least], 1)), batch)
    assert losses.total.item() == pytest.approx(0, abs=1e-5)
    assert losses.per_sample.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-9)


def test_the_bound_is_the_divergence_of_the_posteriors_in_bits() -> None:
    batch = make_batch(timesteps=torch.tensor([1, 40, 500, 999]))
    output = random(4, 32, 32, 32, seed=5)
    objective = DiffusionObjective(ObjectiveSettings())
    losses = objective(Fixed(output), batch)
    theirs, total = scheduler(), 0.0
    for row, time in enumerate(batch.timesteps.tolist()):
        kept = theirs.alphas_cumprod[time].double()
        noisy = kept.sqrt() * batch.latents[row] + (1 - kept).sqrt() * batch.noise[row]
        clean = (noisy - (1 - kept).sqrt() * output[row, :16]) / kept.sqrt()
        before = theirs.alphas_cumprod[time - 1].double()
        beta = 1 - kept / before
        # The two means differ by their clean latents alone.
        gap = before.sqrt() * beta / (1 - kept) * (batch.latents[row] - clean)
        log = theirs._get_variance(time, output[row, 16:].double(), "learned_range")
        small = theirs._get_variance(time, None, "fixed_small").sqrt()
        p = torch.distributions.Normal(gap, small)
        q = torch.distributions.Normal(torch.zeros_like(gap), (0.5 * log).exp())
        divergence = torch.distributions.kl_divergence(p, q).mean() / math.log(2)
        total += float(divergence + (output[row, :16] - batch.noise[row]).square().mean())
    assert losses.total.item() == pytest.approx(total / 4, rel=1e-4)


def test_the_bound_trains_the_variance_alone() -> None:
    batch = make_batch()
    model = Fixed(random(4, 32, 32, 32, seed=5))
    with_bound = DiffusionObjective(ObjectiveSettings())(model, batch)
    (gradient,) = torch.autograd.grad(with_bound.total, model.output)
    alone = DiffusionObjective(ObjectiveSettings(vlb_weight=0.0))(model, batch)
    (simple,) = torch.autograd.grad(alone.total, model.output)
    assert torch.equal(gradient[:, :16], simple[:, :16])
    assert gradient[:, 16:].abs().amin(dim=(1, 2, 3)).gt(0).any()
    assert simple[:, 16:].abs().max() == 0
    assert torch.isfinite(gradient).all()


def test_without_learned_variance_the_second_half_of_the_outputs_is_free() -> None:
    batch = make_batch()
    output = random(4, 32, 32, 32, seed=5)
    settings = ObjectiveSettings(learned_variance=False)
    losses = DiffusionObjective(settings)(Fixed(output), batch)
    expected = (output[:, :16] - batch.noise).square().mean()
    torch.testing.assert_close(losses.total.detach(), expected)
    torch.testing.assert_close(losses.per_sample.mean(), expected)
    with pytest.raises(ValueError, match="32 outputs"):
        DiffusionObjective(ObjectiveSettings())(Fixed(output[:, :16]), batch)


def test_min_snr_weights() -> None:
    kept = scheduler().alphas_cumprod
    snr = kept / (1 - kept)
    noise = DiffusionObjective(ObjectiveSettings(snr_cap=5.0))._weights
    expected = torch.minimum(snr, torch.tensor(5.0)) / snr
    torch.testing.assert_close(noise, expected, rtol=1e-3, atol=0)
    velocity = DiffusionObjective(ObjectiveSettings("v_prediction", snr_cap=5.0))._weights
    assert velocity[snr < 5].eq(1).all()
    # Above the cap both weigh the error of the clean latents alike, but for the constant 1.
    above = (velocity * (snr + 1))[snr > 5]
    torch.testing.assert_close(above, torch.full_like(above, 6.0), rtol=1e-3, atol=0)


def test_rows_that_are_left_out_count_as_nothing(model) -> None:
    whole = make_batch()
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0])
    objective = DiffusionObjective(ObjectiveSettings())
    each = [objective(model, _row(whole, row)).total for row in (0, 2, 3)]
    left_out = objective(model, replace(whole, weights=weights))
    torch.testing.assert_close(left_out.total, sum(each) / 4)
    assert left_out.per_sample.shape == (4,)
    assert not left_out.per_sample.requires_grad


def _row(batch: Batch, row: int) -> Batch:
    return Batch(**{name: value[row : row + 1] for name, value in vars(batch).items()})


def test_dropped_rows_see_the_models_null_embedding(model) -> None:
    batch = make_batch(dropped=torch.tensor([True, False, True, False]))
    seen = conditions(model, batch)
    null = model.caption_projection.uncond_embedding
    assert torch.equal(seen[0], null)
    assert torch.equal(seen[2], null)
    assert torch.equal(seen[1::2], batch.condition[1::2])


def test_the_loss_falls_on_a_repeated_batch() -> None:
    model = build_model(replace(preset("tiny", 256), head_dim=64), DIM, 16)
    batch = make_batch(3, timesteps=torch.tensor([0, 500, 900]))
    objective = DiffusionObjective(ObjectiveSettings())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    values = []
    for _ in range(20):
        losses = objective(model, batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        values.append(losses.total.item())
    assert values[-1] < 0.6 * values[0]


def test_bits_are_means_over_dimensions() -> None:
    nats = torch.full((2, 3, 4), math.log(2))
    assert bits(nats).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    "wrong", [{"prediction": "sample"}, {"vlb_weight": -1.0}, {"snr_cap": 0.0}], ids=str
)
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(SettingsError):
        ObjectiveSettings(**wrong)
