"""The denoising loop against plain loops written out here."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell import PixCellTransformer2DModel, SamplerSettings
from pixcell_share.pixcell.sampler import denoise


def inputs(tokens: int = 1, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(batch, 16, 8, 8, generator=generator)
    return noise, torch.randn(batch, tokens, 24, generator=generator)


def plain_diffusers_loop(
    model: PixCellTransformer2DModel,
    scheduler: DPMSolverMultistepScheduler,
    noise: torch.Tensor,
    embeddings: torch.Tensor,
    guidance_scale: float,
) -> torch.Tensor:
    """diffusers' PixArt pipeline loop, on diffusers' own transformer with the same weights."""
    own = {"caption_projection.uncond_embedding", "y_pos_embed.y_pos_embed"}
    state = model.state_dict()
    config = {k: v for k, v in model.config.items() if k[0] != "_" and k != "caption_num_tokens"}
    pixart = PixArtTransformer2DModel(**config | {"cross_attention_dim": model.inner_dim}).eval()
    pixart.load_state_dict({key: value for key, value in state.items() if key not in own})

    null = state["caption_projection.uncond_embedding"][None].expand_as(embeddings)
    prompt = torch.cat([null, embeddings]) + state.get("y_pos_embed.y_pos_embed", 0.0)
    scheduler.set_timesteps(20)
    latents = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        doubled = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        output = pixart(doubled, encoder_hidden_states=prompt, timestep=t.expand(len(doubled)))[0]
        uncond, cond = output.chunk(2)
        guided = uncond + guidance_scale * (cond - uncond)
        if guided.shape[1] // 2 == latents.shape[1]:
            guided = guided.chunk(2, dim=1)[0]
        latents = scheduler.step(guided, t, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("out_channels", [16, 32])
@torch.inference_mode()
def test_equals_the_plain_diffusers_loop(make_transformer, kind, tokens, out_channels):
    model = make_transformer(caption_num_tokens=tokens, out_channels=out_channels)
    noise, embeddings = inputs(tokens)
    scheduler = DPMSolverMultistepScheduler(prediction_type=kind)
    ours = denoise(model, scheduler, noise, embeddings, steps=20, guidance_scale=2.0)
    theirs = plain_diffusers_loop(
        model, DPMSolverMultistepScheduler(prediction_type=kind), noise, embeddings, 2.0
    )
    assert ours.dtype == torch.float32
    spread = float(theirs.std())
    torch.testing.assert_close(ours / spread, theirs / spread, rtol=0, atol=1e-5)


def dpm_solver_2m(model, noise, embeddings, steps: int) -> torch.Tensor:
    """DPM-Solver++(2M), algorithm 2 of Lu et al. (arXiv:2211.01095), in float64."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    times = torch.linspace(0, 999, steps + 1, dtype=torch.float64).round().long().flip(0)[:-1]
    alpha = [*alpha_bar[times].sqrt().tolist(), 1.0]
    sigma = [*(1 - alpha_bar[times]).sqrt().tolist(), 0.0]
    x, previous = noise.double(), None
    for i, t in enumerate(times):
        eps = model(x.float(), embeddings, t.expand(len(x))).sample[:, :16].double()
        x0 = (x - sigma[i] * eps) / alpha[i]
        if i == steps - 1:
            return x0
        h = math.log(alpha[i + 1] / sigma[i + 1]) - math.log(alpha[i] / sigma[i])
        direction = x0
        if previous is not None:
            h_before = math.log(alpha[i] / sigma[i]) - math.log(alpha[i - 1] / sigma[i - 1])
            ratio = h_before / h
            direction = (1 + 1 / (2 * ratio)) * x0 - previous / (2 * ratio)
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * math.expm1(-h) * direction
        previous = x0
    raise AssertionError("no steps")


@torch.inference_mode()
def test_is_dpm_solver_plus_plus_of_order_two(make_transformer):
    model = make_transformer()
    noise, embeddings = inputs()
    ours = denoise(
        model, DPMSolverMultistepScheduler(), noise, embeddings, steps=20, guidance_scale=1.0
    )
    wanted = dpm_solver_2m(model, noise, embeddings, 20)
    spread = float(wanted.std())
    torch.testing.assert_close(ours.double() / spread, wanted / spread, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_guidance_of_one_is_no_guidance(make_transformer):
    model = make_transformer()
    noise, embeddings = inputs()
    single = denoise(
        model, DPMSolverMultistepScheduler(), noise, embeddings, steps=20, guidance_scale=1.0
    )
    both = plain_diffusers_loop(model, DPMSolverMultistepScheduler(), noise, embeddings, 1.0)
    spread = float(both.std())
    torch.testing.assert_close(single / spread, both / spread, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_guidance_uses_the_checkpoints_null_embedding(make_transformer):
    model = make_transformer()
    noise, embeddings = inputs()

    def run(scale: float) -> torch.Tensor:
        scheduler = DPMSolverMultistepScheduler()
        return denoise(model, scheduler, noise, embeddings, steps=4, guidance_scale=scale)

    guided, plain = run(2.0), run(1.0)
    model.caption_projection.uncond_embedding += 1.0
    assert (run(2.0) - guided).abs().max() > 1e-3
    assert torch.equal(run(1.0), plain)


@torch.inference_mode()
def test_learned_variance_is_discarded(make_transformer):
    model = make_transformer()
    noise, embeddings = inputs()
    runs = []
    for change in (0.0, 5.0):
        variance = model.proj_out.bias.view(2, 2, 32)[..., 16:]
        variance += change
        scheduler = DPMSolverMultistepScheduler()
        runs.append(denoise(model, scheduler, noise, embeddings, steps=3, guidance_scale=2.0))
    assert torch.equal(*runs)


@torch.inference_mode()
def test_latents_stay_float32_between_the_steps_of_a_bf16_model(make_transformer):
    noise, embeddings = inputs()
    options = {"steps": 20, "guidance_scale": 2.0}
    exact = denoise(make_transformer(), DPMSolverMultistepScheduler(), noise, embeddings, **options)
    half = make_transformer().to(torch.bfloat16)
    rough = denoise(half, DPMSolverMultistepScheduler(), noise, embeddings, **options)
    assert rough.dtype == torch.float32
    relative = (rough - exact).norm() / exact.norm()
    assert 0 < relative < 0.05


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1001},
        {"batch_size": 0},
        {"guidance_scale": -1.0},
        {"guidance_scale": math.nan},
        {"guidance_scale": math.inf},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SamplerSettings(**wrong)
