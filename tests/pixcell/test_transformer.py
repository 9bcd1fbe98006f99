"""The transformer against the released state dict, and against diffusers' own PixArt."""

from __future__ import annotations

import pytest
import torch
from diffusers import PixArtTransformer2DModel

from pixcell_share.pixcell import PixCellTransformer2DModel

RELEASED = {
    256: {"sample_size": 32, "interpolation_scale": 0.5, "caption_num_tokens": 1},
    1024: {"sample_size": 128, "interpolation_scale": 2, "caption_num_tokens": 16},
}
CONFIG_1024 = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 16,
    "out_channels": 32,
    "num_layers": 28,
    "cross_attention_dim": 1152,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "num_embeds_ada_norm": 1000,
    "patch_size": 2,
    "sample_size": 128,
    "interpolation_scale": 2,
    "caption_channels": 1536,
    "caption_num_tokens": 16,
    "attention_type": "default",
    "dropout": 0,
    "upcast_attention": False,
    "use_additional_conditions": False,
}


def linear(name: str, out: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def released_shapes(tokens: int) -> dict[str, tuple[int, ...]]:
    """The state dict as /shared/reference/pixcell.md section 2 lists it."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed.proj.weight": (1152, 16, 2, 2),
        "pos_embed.proj.bias": (1152,),
        "scale_shift_table": (2, 1152),
        "caption_projection.uncond_embedding": (tokens, 1536),
        **linear("proj_out", 128, 1152),
        **linear("adaln_single.emb.timestep_embedder.linear_1", 1152, 256),
        **linear("adaln_single.emb.timestep_embedder.linear_2", 1152, 1152),
        **linear("adaln_single.linear", 6912, 1152),
        **linear("caption_projection.linear_1", 1152, 1536),
        **linear("caption_projection.linear_2", 1152, 1152),
    }
    for index in range(28):
        block = f"transformer_blocks.{index}"
        shapes[f"{block}.scale_shift_table"] = (6, 1152)
        for attention in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                shapes |= linear(f"{block}.{attention}.{part}", 1152, 1152)
        shapes |= linear(f"{block}.ff.net.0.proj", 4608, 1152)
        shapes |= linear(f"{block}.ff.net.2", 1152, 4608)
    if tokens > 1:
        shapes["y_pos_embed.y_pos_embed"] = (1, tokens, 1536)
    return shapes


@pytest.mark.parametrize(("size", "keys"), [(256, 604), (1024, 605)])
def test_released_names_shapes_and_counts(size, keys):
    with torch.device("meta"):
        model = PixCellTransformer2DModel(**CONFIG_1024 | RELEASED[size])
    state = model.state_dict()
    assert len(state) == keys
    assert sum(parameter.numel() for parameter in model.parameters()) == 608_072_960
    assert {key: tuple(value.shape) for key, value in state.items()} == released_shapes(
        RELEASED[size]["caption_num_tokens"]
    )
    assert all(value.is_meta for value in state.values())


def test_released_config_keys_are_all_known():
    with torch.device("meta"):
        model = PixCellTransformer2DModel(**CONFIG_1024)
    public = {key: value for key, value in model.config.items() if not key.startswith("_")}
    assert public == CONFIG_1024


def test_tables_of_a_model_built_on_meta(make_transformer):
    whole = make_transformer(caption_num_tokens=4)
    with torch.device("meta"):
        model = PixCellTransformer2DModel(**whole.config)
    model.fill_tables()
    torch.testing.assert_close(model.pos_embed.pos_embed, whole.pos_embed.pos_embed)
    torch.testing.assert_close(model.y_pos_embed.y_pos_embed, whole.y_pos_embed.y_pos_embed)


def pixart_twin(model: PixCellTransformer2DModel) -> PixArtTransformer2DModel:
    skipped = {"caption_num_tokens"}
    config = {k: v for k, v in model.config.items() if k[0] != "_" and k not in skipped}
    width = model.inner_dim
    twin = PixArtTransformer2DModel(**config | {"cross_attention_dim": width}).eval()
    state = model.state_dict()
    own = {"caption_projection.uncond_embedding", "y_pos_embed.y_pos_embed"}
    twin.load_state_dict({key: value for key, value in state.items() if key not in own})
    return twin


@pytest.mark.parametrize("tokens", [1, 4, 16])
def test_forward_equals_pixart(make_transformer, tokens):
    model = make_transformer(caption_num_tokens=tokens)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(3, 16, 8, 8, generator=generator)
    embeddings = torch.randn(3, tokens, 24, generator=generator)
    timestep = torch.tensor([999, 500, 1])
    positions = model.y_pos_embed.y_pos_embed if tokens > 1 else 0.0
    with torch.no_grad():
        ours = model(latents, embeddings, timestep).sample
        theirs = pixart_twin(model)(latents, embeddings + positions, timestep).sample
    assert ours.shape == (3, 32, 8, 8)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_each_token_place_matters(make_transformer):
    model = make_transformer(caption_num_tokens=4)
    embeddings = torch.randn(1, 4, 24, generator=torch.Generator().manual_seed(4))
    latents, timestep = torch.ones(1, 16, 8, 8), torch.tensor([10])
    with torch.no_grad():
        straight = model(latents, embeddings, timestep).sample
        turned = model(latents, embeddings.flip(1), timestep).sample
    assert (straight - turned).abs().max() > 1e-4


def test_other_latent_sizes_are_accepted(make_transformer):
    model = make_transformer()
    with torch.no_grad():
        output = model(torch.ones(1, 16, 12, 10), torch.ones(1, 1, 24), torch.tensor([1]))
    assert output.sample.shape == (1, 32, 12, 10)


@pytest.mark.parametrize(
    ("embeddings", "timestep", "named"),
    [
        ((2, 2, 24), (2,), r"embeddings must be \(2, 1, 24\)"),
        ((2, 1, 23), (2,), r"embeddings must be \(2, 1, 24\)"),
        ((2, 1, 24), (1,), r"timestep must be \(2,\)"),
        ((2, 1, 24), (), r"timestep must be \(2,\)"),
    ],
)
def test_wrong_shapes_are_refused(make_transformer, embeddings, timestep, named):
    with pytest.raises(ValueError, match=named):
        make_transformer()(torch.ones(2, 16, 8, 8), torch.ones(embeddings), torch.ones(timestep))


@pytest.mark.parametrize(
    ("change", "named"),
    [({"norm_type": "ada_norm_zero"}, "norm_type"), ({"cross_attention_dim": 48}, "must be 32")],
)
def test_impossible_configs_are_refused(make_transformer, change, named):
    with pytest.raises(ValueError, match=named):
        make_transformer(**change)


def test_null_fallbacks_are_those_of_diffusers():
    with torch.device("meta"):
        small = PixCellTransformer2DModel(num_layers=1, sample_size=32)
        large = PixCellTransformer2DModel(num_layers=1, sample_size=128)
    assert (small.interpolation_scale, large.interpolation_scale) == (1, 2)
    assert (small.use_additional_conditions, large.use_additional_conditions) == (False, True)


def test_additional_conditions_reach_the_time_embedding(make_transformer):
    changes = {"use_additional_conditions": True, "num_attention_heads": 3}
    model = make_transformer(**changes)
    inputs = torch.ones(1, 16, 8, 8), torch.ones(1, 1, 24), torch.tensor([1])
    with pytest.raises(ValueError, match="added_cond_kwargs"):
        model(*inputs)
    added = {"resolution": torch.tensor([[64.0, 64.0]]), "aspect_ratio": torch.tensor([[1.0]])}
    with torch.no_grad():
        theirs = pixart_twin(model)(*inputs, added_cond_kwargs=added).sample
        torch.testing.assert_close(model(*inputs, added_cond_kwargs=added).sample, theirs)


def test_gradient_checkpointing_gives_the_same_gradients(make_transformer):
    gradients = []
    for checkpointing in (False, True):
        model = make_transformer()
        if checkpointing:
            model.enable_gradient_checkpointing()
        inputs = torch.ones(2, 16, 8, 8), torch.ones(2, 1, 24), torch.tensor([1, 2])
        model.train()(*inputs).sample.square().mean().backward()
        gradients.append(model.transformer_blocks[0].ff.net[2].weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_null_embedding_is_the_checkpoints_buffer(make_transformer):
    model = make_transformer(caption_num_tokens=4)
    null = model.null_embedding(3)
    assert null.shape == (3, 4, 24)
    assert torch.equal(null[2], model.state_dict()["caption_projection.uncond_embedding"])
    assert "caption_projection.uncond_embedding" not in dict(model.named_parameters())
