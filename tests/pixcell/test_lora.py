"""LoRA files of every published form, against peft and diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from pixcell_share.errors import (
    SettingsError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from pixcell_share.pixcell import PixCell, PixCellTransformer2DModel, SamplerSettings
from pixcell_share.pixcell.lora import add_lora, load_lora, lora_state, merge_lora, save_lora
from pixcell_share.weights import digest_files

POSITIONS = "y_pos_embed.y_pos_embed"


@torch.no_grad()
def output(model: PixCellTransformer2DModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 16, 8, 8, generator=generator)
    embeddings = torch.randn(2, model.config.caption_num_tokens, 24, generator=generator)
    return model(latents, embeddings, torch.tensor([999, 5])).sample


def trained(model: PixCellTransformer2DModel, rank: int = 4, alpha: float = 4.0):
    """``model`` with an adapter that does something: its second matrices are no longer zero."""
    add_lora(model, rank, alpha, seed=5)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for key, value in lora_state(model).items():
            if "lora_B" in key:
                value.copy_(torch.randn(value.shape, generator=generator))
    return model


def test_an_adapter_has_the_published_size():
    with torch.device("meta"):
        model = PixCellTransformer2DModel(
            sample_size=128, caption_num_tokens=16, use_additional_conditions=False
        )
        parameters = add_lora(model)
    assert len(parameters) == len(lora_state(model)) == 224
    assert sum(parameter.numel() for parameter in parameters) == 1_032_192
    state = model.state_dict()
    assert len(state) == 829
    block = "transformer_blocks.27.attn2"
    assert state[f"{block}.to_q.lora_A.default.weight"].shape == (4, 1152)
    assert state[f"{block}.to_out.0.lora_B.default.weight"].shape == (1152, 4)
    assert f"{block}.to_v.base_layer.bias" in state


def test_a_fresh_adapter_changes_nothing_and_alone_is_trained(make_transformer):
    model, plain = make_transformer(), make_transformer()
    before = torch.random.get_rng_state()
    parameters = add_lora(model, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(output(model), output(plain))
    names = {name for name, value in model.named_parameters() if value.requires_grad}
    assert len(names) == len(parameters) == 2 * 4 * 2
    assert all("attn2" in name and "lora_" in name for name in names)
    deviation = torch.cat([p.detach().flatten() for p in parameters if p.shape[0] == 4]).std()
    assert deviation == pytest.approx(1 / 4, rel=0.15)  # 512 draws: 1 / sqrt(1024) = 3 %
    other = make_transformer()
    add_lora(other, seed=1)
    assert all(
        torch.equal(a, b) for a, b in zip(parameters, lora_state(other).values(), strict=True)
    )


@pytest.mark.parametrize(("rank", "alpha"), [(4, 4.0), (2, 8.0)])
def test_what_was_saved_is_loaded(make_transformer, tmp_path, rank, alpha):
    model = trained(make_transformer(), rank, alpha)
    path = save_lora(model, tmp_path / "lora.safetensors", base_sha256="ab" * 32)
    fresh = make_transformer()
    info = load_lora(fresh, path)
    assert (info.rank, info.alpha, info.tensors) == (rank, alpha, 16)
    assert (info.whole_model, info.base_sha256) == (False, "ab" * 32)
    assert torch.equal(output(fresh), output(model))
    assert (output(fresh) - output(make_transformer())).abs().max() > 1e-3


def test_peft_writes_the_same_keys(make_transformer):
    model = trained(make_transformer())
    theirs = get_peft_model_state_dict(model, adapter_name="default")
    ours = lora_state(model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("alpha", [4.0, 8.0])
def test_diffusers_loads_our_file(make_transformer, tmp_path, alpha):
    model = trained(make_transformer(), 4, alpha)
    save_lora(model, tmp_path / "pytorch_lora_weights.safetensors")
    theirs = make_transformer()
    theirs.load_lora_adapter(str(tmp_path), prefix=None, use_safetensors=True)
    assert torch.equal(output(theirs), output(model))


@pytest.mark.parametrize("form", ["{layer}.{matrix}.default.weight", "{layer}.{matrix}.weight",
                                  "transformer.{layer}.{matrix}.weight",
                                  "base_model.model.{layer}.{matrix}.weight"])  # fmt: skip
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_with_only_the_adapter_load_whatever_their_prefix(
    make_transformer, tmp_path, form, suffix
):
    model = trained(make_transformer())
    state = {}
    for key, value in lora_state(model).items():
        layer, _, matrix = key.removesuffix(".weight").rpartition(".")
        state[form.format(layer=layer, matrix=matrix)] = value.clone()
    path = tmp_path / f"mist_her2_lora{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    fresh = make_transformer()
    info = load_lora(fresh, path)
    assert (info.rank, info.alpha) == (4, 4.0)
    assert torch.equal(output(fresh), output(model))


@pytest.mark.parametrize("with_positions", [True, False])
def test_files_with_the_whole_model_load(make_transformer, tmp_path, with_positions):
    model = trained(make_transformer(caption_num_tokens=16))
    state = model.state_dict()
    assert any(".base_layer." in key for key in state)
    if not with_positions:
        del state[POSITIONS]
    torch.save(state, tmp_path / "lora.pth")
    other = make_transformer(caption_num_tokens=16)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)  # another base: the file's own must replace it
    info = load_lora(other, tmp_path / "lora.pth")
    assert info.whole_model
    assert torch.equal(output(other), output(model))


@pytest.mark.parametrize(
    "key", ["proj_out.bias", "transformer_blocks.0.attn2.to_q.base_layer.bias"]
)
def test_a_whole_model_may_lack_nothing_else(make_transformer, tmp_path, key):
    state = trained(make_transformer(caption_num_tokens=16)).state_dict()
    del state[key]
    torch.save(state, tmp_path / "lora.pth")
    with pytest.raises(WeightsMismatchError, match=key.replace(".base_layer", "")):
        load_lora(make_transformer(caption_num_tokens=16), tmp_path / "lora.pth")


def test_a_whole_model_says_what_it_was_meant_for(make_transformer, tmp_path):
    torch.save(trained(make_transformer(caption_num_tokens=16)).state_dict(), tmp_path / "lora.pth")
    with pytest.raises(WeightsMismatchError, match="meant for a model with 16 embeddings"):
        load_lora(make_transformer(caption_num_tokens=4), tmp_path / "lora.pth")


def test_peft_loads_our_whole_model_strictly(make_transformer):
    """The order of the published script: build, add the adapter, then load strictly."""
    model = trained(make_transformer())
    theirs = make_transformer()
    targets = ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
    theirs.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets))
    theirs.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(output(theirs), output(model))


def test_alpha_may_stand_beside_the_file_or_be_given(make_transformer, tmp_path):
    model = trained(make_transformer(), rank=4, alpha=8.0)
    path = tmp_path / "adapter_model.safetensors"
    save_file({key: value.clone() for key, value in lora_state(model).items()}, path)
    assert load_lora(make_transformer(), path).alpha == 4.0
    assert load_lora(make_transformer(), path, alpha=8.0).alpha == 8.0
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    fresh = make_transformer()
    assert load_lora(fresh, tmp_path).alpha == 8.0
    assert torch.equal(output(fresh), output(model))


def test_a_merged_adapter_is_part_of_the_weights(make_transformer):
    model = trained(make_transformer())
    wanted = output(model)
    merge_lora(model)
    assert model.state_dict().keys() == make_transformer().state_dict().keys()
    torch.testing.assert_close(output(model), wanted, rtol=0, atol=1e-5)
    add_lora(model)  # and another may follow


def test_a_second_adapter_is_refused(make_transformer):
    model = trained(make_transformer())
    with pytest.raises(SettingsError, match="already"):
        add_lora(model)


def test_an_adapter_of_another_model_is_refused(make_transformer, tmp_path):
    path = save_lora(trained(make_transformer()), tmp_path / "lora.safetensors")
    with pytest.raises(WeightsMismatchError, match="meant for a generator of width 32, not 48"):
        load_lora(make_transformer(num_attention_heads=3), path)
    with pytest.raises(WeightsMismatchError, match=r"adapts transformer_blocks\.1\.attn2"):
        load_lora(make_transformer(num_layers=1), path)


def test_files_that_are_no_adapter_are_refused(make_transformer, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"proj_out.bias": torch.zeros(3)}, path)
    with pytest.raises(WeightsMismatchError, match="no LoRA"):
        load_lora(make_transformer(), path)
    path.write_bytes(b"12")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_lora(make_transformer(), path)
    for missing in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(WeightsMissingError, match="no LoRA file"):
            load_lora(make_transformer(), missing)
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(WeightsMismatchError, match="not a dictionary"):
        load_lora(make_transformer(), tmp_path / "list.pth")


def test_nothing_is_changed_by_a_file_that_does_not_fit(make_transformer, tmp_path):
    state = lora_state(trained(make_transformer()))
    mixed = {key: value.clone() for key, value in state.items()}
    first = next(iter(mixed)).removesuffix("lora_A.weight")
    mixed[f"{first}lora_A.weight"] = torch.zeros(2, 32)
    mixed[f"{first}lora_B.weight"] = torch.zeros(32, 2)
    save_file(mixed, tmp_path / "lora.safetensors")
    model = make_transformer()
    with pytest.raises(WeightsMismatchError, match=r"ranks \[2, 4\]"):
        load_lora(model, tmp_path / "lora.safetensors")
    assert torch.equal(output(model), output(make_transformer()))
    assert load_file(tmp_path / "lora.safetensors").keys() == state.keys()
    assert not lora_state(model)


@pytest.mark.parametrize(("rank", "alpha"), [(0, 4.0), (4, 0.0), (4, float("nan"))])
def test_impossible_settings_are_refused(make_transformer, rank, alpha):
    with pytest.raises(SettingsError, match="LoRA of rank"):
        add_lora(make_transformer(), rank, alpha)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_generator_loads_with_its_adapter(make_transformer, make_folder, tmp_path, dtype):
    folder = make_folder(tmp_path / "model")
    path = save_lora(trained(make_transformer()), tmp_path / "lora.safetensors")
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    model = PixCell.from_pretrained(str(folder), lora=path, dtype=dtype)
    plain = PixCell.from_pretrained(str(folder), dtype=dtype)
    merged = trained(make_transformer())
    merge_lora(merged)
    key = "transformer_blocks.1.attn2.to_v.weight"
    wanted = merged.state_dict()[key].to(model.transformer.dtype)
    assert torch.equal(model.transformer.state_dict()[key], wanted)
    adapter = model.identities[-1]
    assert model.identities[:-1] == plain.identities
    assert (adapter.role, adapter.source, adapter.licence) == ("adapter", "local", "apache-2.0")
    assert adapter.sha256 == digest_files([path])
    given, settings = np.ones((1, 24), np.float32), SamplerSettings(steps=2)
    ours, theirs = (next(each.generate(given, [1], settings)) for each in (model, plain))
    assert (ours != theirs).any()
