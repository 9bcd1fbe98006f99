"""`GuidedModel` against the transformer's own forward pass in every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from peft import LoraConfig

from pixcell_share.errors import SettingsError, WeightsMismatchError
from pixcell_share.pixcell import PixCellTransformer2DModel
from pixcell_share.pixcell.guided import GuidedModel
from pixcell_share.pixcell.sampler import denoise

STEPS = 4


def inputs(tokens: int, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(batch, 16, 8, 8, generator=generator)
    return noise, torch.randn(batch, tokens, 24, generator=generator)


def plain(
    model: PixCellTransformer2DModel,
    latents: torch.Tensor,
    embeddings: torch.Tensor,
    timestep: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """The whole transformer on the null conditions, then on the given ones."""
    count = len(latents)
    both = torch.cat([model.null_embedding(count), embeddings])
    output = model(latents.repeat(2, 1, 1, 1), both, timestep.expand(2 * count)).sample[:, :16]
    null, condition = output.float().chunk(2)
    return null + scale * (condition - null)


def timesteps() -> torch.Tensor:
    scheduler = DPMSolverMultistepScheduler()
    scheduler.set_timesteps(STEPS)
    return scheduler.timesteps


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    spread = float(theirs.std())
    torch.testing.assert_close(ours / spread, theirs / spread, rtol=0, atol=1e-5)


VARIANTS = [
    {"caption_num_tokens": 1},
    {"caption_num_tokens": 16},
    {"caption_num_tokens": 4, "out_channels": 16},
    {"norm_elementwise_affine": True, "activation_fn": "geglu", "attention_bias": False},
    {"activation_fn": "gelu", "norm_eps": 1e-3},
]


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.0])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@torch.inference_mode()
def test_every_step_equals_the_plain_transformer(make_transformer, variant, scale):
    model = make_transformer(**variant)
    randomise_norms(model)
    latents, embeddings = inputs(model.config.caption_num_tokens)
    guided = GuidedModel(model, embeddings, timesteps(), guidance_scale=scale)
    for step, timestep in enumerate(timesteps()):
        ours = guided.predict(latents, step)
        assert ours.dtype == torch.float32
        assert_equal(ours, plain(model, latents, embeddings, timestep, scale))


def randomise_norms(model: PixCellTransformer2DModel) -> None:
    """Other norm weights than ones and zeros, where there are any."""
    for block in model.transformer_blocks:
        for norm in (block.norm1, block.norm2):
            if norm.weight is not None:
                norm.weight.normal_()
                norm.bias.normal_()


@pytest.mark.parametrize("tokens", [1, 16])
@torch.inference_mode()
def test_rows_are_the_conditions_of_some_images(make_transformer, tokens):
    model = make_transformer(caption_num_tokens=tokens)
    latents, embeddings = inputs(tokens, batch=5)
    guided = GuidedModel(model, embeddings, timesteps(), guidance_scale=1.5)
    for rows in (slice(0, 2), slice(2, 5), slice(4, 5), slice(3, 99)):
        ours = guided.predict(latents[rows], 1, rows)
        assert_equal(ours, plain(model, latents[rows], embeddings[rows], timesteps()[1], 1.5))


@pytest.mark.parametrize("tokens", [1, 16])
@pytest.mark.parametrize("targets", ["attn2", "all"])
@torch.inference_mode()
def test_an_adapted_transformer(make_transformer, tokens, targets):
    model = make_transformer(caption_num_tokens=tokens)
    names = ["to_q", "to_k", "to_v", "to_out.0"]
    modules = [f"attn2.{name}" for name in names]
    more = [*names, "ff.net.0.proj", "ff.net.2"]
    config = LoraConfig(
        r=4, lora_alpha=4, init_lora_weights=False,
        target_modules=modules if targets == "attn2" else more,
    )  # fmt: skip
    latents, embeddings = inputs(tokens)
    before = plain(model, latents, embeddings, timesteps()[1], 2.0)
    torch.manual_seed(3)
    model.add_adapter(config)
    adapted = plain(model, latents, embeddings, timesteps()[1], 2.0)
    assert (adapted - before).abs().max() > 1e-2
    run = GuidedModel(model, embeddings, timesteps(), guidance_scale=2.0)
    assert_equal(run.predict(latents, 1), adapted)
    model.disable_adapters()
    run = GuidedModel(model, embeddings, timesteps(), guidance_scale=2.0)
    assert_equal(run.predict(latents, 1), before)


@torch.inference_mode()
def test_other_affine_adapters(make_transformer):
    model = make_transformer()
    latents, embeddings = inputs(1)
    torch.manual_seed(3)
    model.add_adapter(LoraConfig(r=4, use_dora=True, target_modules=["to_q", "to_v"]))
    for name, weight in model.named_parameters():
        if "lora" in name:
            weight.normal_(std=0.2)
    run = GuidedModel(model, embeddings, timesteps(), guidance_scale=2.0)
    adapted = plain(model, latents, embeddings, timesteps()[1], 2.0)
    assert_equal(run.predict(latents, 1), adapted)


def calls(model: PixCellTransformer2DModel, work: Callable[[], object]) -> dict[str, list[int]]:
    """Batch sizes that each layer was called with; layers used as plain weights are absent."""
    seen: dict[str, list[int]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(len(args[0]))
        )
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    work()
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("tokens", [1, 16])
def test_what_does_not_change_is_computed_once(make_transformer, tokens):
    model = make_transformer(caption_num_tokens=tokens)
    noise, embeddings = inputs(tokens)

    def run() -> None:
        denoise(model, DPMSolverMultistepScheduler(), noise, embeddings, steps=7, guidance_scale=2)

    seen = calls(model, run)
    assert seen["adaln_single.linear"] == [7]  # once, for all steps
    assert seen["caption_projection.linear_1"] == [1, 3]  # the null condition once
    assert seen["transformer_blocks.1.attn2.to_v"] == [1, 3]
    assert seen["pos_embed.proj"] == [3] * 7  # one latent for both branches
    assert "transformer_blocks.1.attn2.to_q" not in seen


def test_the_null_branch_is_not_run_without_guidance(make_transformer):
    model = make_transformer()
    noise, embeddings = inputs(1)
    guided = GuidedModel(model, embeddings, timesteps(), guidance_scale=1.0)
    seen = calls(model, lambda: GuidedModel(model, embeddings, timesteps(), guidance_scale=1.0))
    assert seen["caption_projection.linear_1"] == [3]
    model.caption_projection.uncond_embedding.fill_(torch.nan)
    assert guided.predict(noise, 0).isfinite().all()


@torch.inference_mode()
def test_two_runs_over_one_model_do_not_disturb_each_other(make_transformer):
    model = make_transformer()
    latents, embeddings = inputs(1)
    alone = GuidedModel(model, embeddings, timesteps(), guidance_scale=2.0).predict(latents, 0)
    first = GuidedModel(model, embeddings, timesteps(), guidance_scale=2.0)
    other = GuidedModel(model, embeddings.flip(0), timesteps()[:2], guidance_scale=1.0)
    other.predict(latents, 1)
    assert torch.equal(first.predict(latents, 0), alone)


@torch.inference_mode()
def test_guidance_only_in_an_interval(make_transformer):
    model = make_transformer()
    latents, embeddings = inputs(1)
    steps = timesteps()  # 999, 749, 500, 250
    guided = GuidedModel(
        model, embeddings, steps, guidance_scale=3.0, guidance_interval=(300.0, 749.0)
    )
    for step, scale in enumerate([1.0, 3.0, 3.0, 1.0]):
        assert_equal(
            guided.predict(latents, step), plain(model, latents, embeddings, steps[step], scale)
        )


def test_a_run_keeps_no_graph(make_transformer):
    model = make_transformer()
    latents, embeddings = inputs(1)
    guided = GuidedModel(model, embeddings, timesteps(), guidance_scale=2.0)
    assert not guided.predict(latents, 0).requires_grad


def test_bf16_is_as_close_to_float32_as_the_plain_loop(make_transformer):
    model, half = make_transformer(), make_transformer().to(torch.bfloat16)
    latents, embeddings = inputs(1)
    with torch.inference_mode():
        exact = plain(model, latents, embeddings, timesteps()[1], 2.0)
        usual = plain(half, latents.bfloat16(), embeddings.bfloat16(), timesteps()[1], 2.0)
    ours = GuidedModel(half, embeddings, timesteps(), guidance_scale=2.0).predict(latents, 1)
    assert (ours - exact).norm() < 1.2 * (usual - exact).norm()


def test_another_models_inputs_are_refused(make_transformer):
    model = make_transformer()
    latents, embeddings = inputs(1)
    guided = GuidedModel(model, embeddings, timesteps(), guidance_scale=2.0)
    with pytest.raises(WeightsMismatchError, match="made for 16 latent channels of 8 x 8"):
        guided.predict(torch.zeros(3, 4, 8, 8), 0)
    with pytest.raises(WeightsMismatchError, match=r"3 x 16 x 128 x 128.*PixCell-1024"):
        guided.predict(torch.zeros(3, 16, 128, 128), 0)
    with pytest.raises(WeightsMismatchError, match="for 3 images"):
        guided.predict(latents[:2], 0)
    with pytest.raises(WeightsMismatchError, match="made for 1 x 24 numbers an image: these"):
        GuidedModel(model, torch.zeros(3, 16, 24), timesteps(), guidance_scale=2.0)


def test_released_models_are_named():
    with torch.device("meta"):
        model = PixCellTransformer2DModel(
            caption_num_tokens=16, sample_size=128, use_additional_conditions=False, num_layers=1
        )
    with pytest.raises(WeightsMismatchError, match=r"16 x 1536 .*PixCell-1024.*1 x 1536"):
        GuidedModel(model, torch.zeros(1, 1, 1536), timesteps(), guidance_scale=2.0)


def test_pixarts_extra_conditions_are_refused(make_transformer):
    model = make_transformer(use_additional_conditions=True, num_attention_heads=3)
    with pytest.raises(SettingsError, match="resolution and aspect ratio"):
        GuidedModel(model, inputs(1)[1], timesteps(), guidance_scale=2.0)
