"""A stage starts from nothing, or from the stage before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.pixcell.purpose import NULL_KEY, TOKEN_POSITIONS_KEY
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.stages import preset
from pixcell_share.training.start import build_model, initialise_from

DIM = 24


def build(stage: int, seed: int = 0, **changes):
    return build_model(replace(preset("tiny", stage), **changes), DIM, 16, seed=seed)


@pytest.fixture
def first_stage(tmp_path):
    build(256, seed=1).save_pretrained(tmp_path / "transformer")
    return tmp_path


def test_every_rank_builds_the_same_and_disturbs_no_other_draw() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = build(256), build(256), build(256, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.pos_embed.proj.weight, other.pos_embed.proj.weight)


def test_a_fresh_model_predicts_zero_and_every_block_learns_at_once() -> None:
    model = build(512)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 16, 64, 64, generator=generator)
    condition = torch.randn(2, 4, DIM, generator=generator)
    output = model(latents, condition, torch.tensor([5, 900])).sample
    assert output.abs().max() == 0
    torch.nn.init.normal_(model.proj_out.weight, std=0.02, generator=generator)
    model(latents, condition, torch.tensor([5, 900])).sample.square().sum().backward()
    for block in model.transformer_blocks:
        for part in (block.attn1.to_v, block.attn2.to_out[0], block.ff.net[2]):
            assert part.weight.grad.abs().max() > 0


def test_recomputing_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        model = build(256, recompute=recompute).train()
        torch.nn.init.ones_(model.proj_out.weight)
        assert model.gradient_checkpointing == recompute
        latents = torch.ones(1, 16, 32, 32)
        model(latents, torch.ones(1, 1, DIM), torch.tensor([5])).sample.sum().backward()
        gradients.append(model.transformer_blocks[0].ff.net[2].weight.grad)
    torch.testing.assert_close(*gradients)


def test_a_stage_with_other_tokens_takes_all_but_null_and_positions(first_stage) -> None:
    before = PixCellTransformer2DModel.from_pretrained(first_stage / "transformer").state_dict()
    model = build(512)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    taken = initialise_from(model, first_stage)
    assert set(taken.fresh) == {NULL_KEY, TOKEN_POSITIONS_KEY}
    assert set(taken.kept) | set(taken.fresh) == set(own)
    for key, value in model.state_dict().items():
        assert torch.equal(value, own[key] if key in taken.fresh else before[key]), key


def test_the_same_tokens_take_the_null_embedding_too(first_stage) -> None:
    before = PixCellTransformer2DModel.from_pretrained(first_stage / "transformer").state_dict()
    model = build(256)
    taken = initialise_from(model, first_stage / "transformer")
    assert taken.fresh == ()
    assert torch.equal(model.state_dict()[NULL_KEY], before[NULL_KEY])


def test_position_tables_follow_the_new_stage(first_stage, tmp_path) -> None:
    middle = build(512)
    initialise_from(middle, first_stage)
    middle.save_pretrained(tmp_path / "512" / "transformer")
    last, fresh = build(1024), build(1024)
    taken = initialise_from(last, tmp_path / "512")
    assert set(taken.fresh) == {NULL_KEY, TOKEN_POSITIONS_KEY}
    assert torch.equal(last.y_pos_embed.y_pos_embed, fresh.y_pos_embed.y_pos_embed)
    assert torch.equal(last.pos_embed.pos_embed, fresh.pos_embed.pos_embed)


def test_positions_agree_between_stages_where_the_tissue_is_the_same() -> None:
    """Interpolation 0.5, 1 and 2 give the image one extent at every stage.

    So patch 2k of a stage lies where patch k of the stage before lies.
    """
    sides = {256: 16, 512: 32, 1024: 64}
    tables = {
        stage: build(stage).pos_embed.pos_embed[0].unflatten(0, (side, side))
        for stage, side in sides.items()
    }
    torch.testing.assert_close(tables[512][::2, ::2], tables[256])
    torch.testing.assert_close(tables[1024][::2, ::2], tables[512])
    torch.testing.assert_close(tables[1024][::4, ::4], tables[256])
    assert not torch.allclose(tables[512][:16, :16], tables[256])


def test_token_positions_agree_with_the_patches_they_describe() -> None:
    """A token lies at the centre of its tile: the middle of its first and last patch."""
    for stage, side in ((512, 32), (1024, 64)):
        model = build(stage)
        grid, scale = stage // 256, stage / 512
        per_tile = side // grid
        table = model.y_pos_embed.y_pos_embed[0].unflatten(0, (grid, grid))
        quarter = DIM // 4
        for column in range(grid):
            centre = (column * per_tile + per_tile / 2) / scale
            assert table[0, column, 0].item() == pytest.approx(
                torch.sin(torch.tensor(centre)).item(), abs=1e-5
            )
            assert table[column, 0, 2 * quarter].item() == pytest.approx(
                torch.sin(torch.tensor(centre)).item(), abs=1e-5
            )


@pytest.mark.parametrize(
    "changes", [{"head_dim": 20}, {"layers": 3}, {"heads": 1, "head_dim": 64}], ids=str
)
def test_another_model_is_refused(first_stage, changes) -> None:
    with pytest.raises(WeightsMismatchError, match="no earlier stage"):
        initialise_from(build(512, **changes), first_stage)


def test_half_precision_weights_start_a_float32_stage(first_stage, tmp_path) -> None:
    half = PixCellTransformer2DModel.from_pretrained(first_stage / "transformer").half()
    half.save_pretrained(tmp_path / "half" / "transformer")
    model = build(512)
    initialise_from(model, tmp_path / "half")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
