"""`pixcell-train adapt`: a LoRA is trained, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file

from pixcell_share.errors import SettingsError, WeightsMismatchError, WorkFolderError
from pixcell_share.pixcell.load import load_transformer, weight_files
from pixcell_share.pixcell.lora import TARGETS, add_lora, load_lora, merge_lora
from pixcell_share.training.adapt import AdaptSettings, adapt, is_lora
from pixcell_share.training.batch import Batch
from pixcell_share.training.logs import read_log
from pixcell_share.training.objective import DiffusionObjective, ObjectiveSettings
from pixcell_share.weights import digest_files
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator without its VAE, whose output and cross-attention are not at zero."""
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    shutil.rmtree(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def adapted(model: Path, store: Path, tmp_path_factory: pytest.TempPathFactory):
    """A finished run of 6 steps."""
    out = tmp_path_factory.mktemp("adapted")
    return adapt(settings(model, store, out), print)


def settings(model: Path, store: Path, out: Path, **changes) -> AdaptSettings:
    usual = AdaptSettings(
        model=str(model), latents=(str(store),), out=out, steps=6, batch=4, micro_batch=2,
        rate=1e-3, dtype="fp32", device="cpu", save_every=2, log_every=1,
    )  # fmt: skip
    return replace(usual, **changes)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 16, 32, 32, generator=draw)
    return latents, torch.randn(2, 1, 24, generator=draw), torch.tensor([10, 800])


def test_the_file_holds_the_lora_alone_and_changes_the_model(adapted, model) -> None:
    state = load_file(adapted.file)
    assert all(is_lora(f".{key}") and ".attn2." in key for key in state)
    assert len(state) == 8  # two matrices for each of four layers of one block
    base, changed = (load_transformer(model / "transformer") for _ in range(2))
    info = load_lora(changed, adapted.file.parent)
    assert (info.rank, info.alpha, info.whole_model) == (4, 4.0, False)
    assert info.base_sha256 == digest_files(weight_files(model / "transformer"))
    with torch.no_grad():
        before, after = (each(*inputs()).sample for each in (base, changed))
    assert not torch.equal(before, after)
    torch.testing.assert_close(before, after, atol=0.2, rtol=0)


def test_peft_itself_loads_the_file(adapted, model) -> None:
    ours = load_transformer(model / "transformer")
    load_lora(ours, adapted.file)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=list(TARGETS))
    theirs = get_peft_model(load_transformer(model / "transformer"), config)
    state = {f"base_model.model.{key}": value for key, value in load_file(adapted.file).items()}
    result = set_peft_model_state_dict(theirs, state)
    assert not result.unexpected_keys
    with torch.no_grad():
        assert torch.equal(ours(*inputs()).sample, theirs(*inputs()).sample)


def test_diffusers_loads_the_file(adapted, model) -> None:
    ours = load_transformer(model / "transformer")
    load_lora(ours, adapted.file)
    theirs = load_transformer(model / "transformer")
    theirs.load_lora_adapter(adapted.file.parent, weight_name=adapted.file.name, prefix=None)
    with torch.no_grad():
        assert torch.equal(ours(*inputs()).sample, theirs(*inputs()).sample)


def test_only_the_lora_is_trained_and_kept(model, store, tmp_path, monkeypatch) -> None:
    from pixcell_share.training import adapt as module

    seen = []
    save = module.save_lora
    monkeypatch.setattr(
        module, "save_lora", lambda model, *a, **k: (seen.append(model), save(model, *a, **k))[1]
    )
    adapt(settings(model, store, tmp_path / "run"), print)
    (trained,) = seen
    before = load_transformer(model / "transformer").state_dict()
    after = {k.replace(".base_layer.", "."): v for k, v in trained.state_dict().items()}
    assert {key for key in after if not is_lora(key)} == set(before)
    for key, value in before.items():
        assert torch.equal(after[key], value), key
    fresh = load_transformer(model / "transformer")
    add_lora(fresh, seed=0)
    start = {key: value for key, value in fresh.state_dict().items() if is_lora(key)}
    moved = {key for key in start if not torch.equal(trained.state_dict()[key], start[key])}
    # With one condition token the query and the key have no effect, and stay at their start.
    assert moved == {key for key in start if ".to_v." in key or ".to_out." in key}
    kept = torch.distributed.checkpoint.FileSystemReader(
        tmp_path / "run" / "checkpoints" / "step-00000006"
    ).read_metadata()
    weights = [key for key in kept.state_dict_metadata if key.startswith("model/")]
    assert weights
    assert all(is_lora(key) for key in weights)


def test_a_run_that_goes_on_ends_with_the_same_weights(adapted, model, store, tmp_path) -> None:
    run = settings(model, store, tmp_path / "run", steps=4)
    adapt(run, print)
    report = adapt(replace(run, steps=6), print)
    assert (report.step, report.loss) == (6, adapted.loss)
    one, other = load_file(report.file), load_file(adapted.file)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    losses = [line["loss"] for line in read_log(tmp_path / "run")]
    assert losses == [line["loss"] for line in read_log(adapted.file.parent)]
    with pytest.raises(WorkFolderError, match="rank"):
        adapt(replace(run, rank=2), print)


def test_the_loss_falls_on_a_repeated_batch(model) -> None:
    transformer = load_transformer(model / "transformer")
    weights = add_lora(transformer)
    draw = torch.Generator().manual_seed(0)
    batch = Batch(
        latents=torch.randn(2, 16, 32, 32, generator=draw),
        condition=torch.randn(2, 1, 24, generator=draw),
        noise=torch.randn(2, 16, 32, 32, generator=draw),
        timesteps=torch.tensor([100, 800]),
        dropped=torch.zeros(2, dtype=torch.bool),
        weights=torch.ones(2),
        positions=torch.arange(2),
    )
    objective = DiffusionObjective(ObjectiveSettings(learned_variance=False))
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    values = []
    for _ in range(25):
        losses = objective(transformer, batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        values.append(losses.total.item())
    assert values[-1] < 0.9 * values[0]
    merge_lora(transformer)
    assert objective(transformer, batch).total.item() == pytest.approx(values[-1], rel=0.05)


def test_a_store_of_another_model_is_refused(store, tmp_path) -> None:
    folder = make_tiny_model(tmp_path / "model")  # with its VAE, whose scale differs
    with pytest.raises(WeightsMismatchError, match="scaling_factor"):
        adapt(settings(folder, store, tmp_path / "run"), print)
    shutil.rmtree(folder / "vae")
    other = make_tiny_model(tmp_path / "other", dim=32)
    shutil.rmtree(other / "vae")
    with pytest.raises(WeightsMismatchError, match="length 24, the generator's 32"):
        adapt(settings(other, store, tmp_path / "run"), print)


def test_another_noise_schedule_is_refused(model, store, tmp_path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "beta_schedule": "scaled_linear"}))
    with pytest.raises(WeightsMismatchError, match="betas"):
        adapt(settings(folder, store, tmp_path / "run"), print)


def test_the_prediction_is_the_generators_own(model, store, tmp_path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "v_prediction"}))
    adapt(settings(folder, store, tmp_path / "run", steps=1), print)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["fixed"]["stage"]["objective"]["prediction"] == "v_prediction"
    assert run["fixed"]["lora"]["rank"] == 4


def test_the_command(model, store, tmp_path, capsys) -> None:
    from pixcell_share import console
    from pixcell_share.training.cli import app

    words = ["adapt", "--model", model, "--latents", store, "--out", tmp_path / "run"]
    words += ["--steps", 1, "--batch", 2, "--device", "cpu", "--dtype", "fp32", "--json"]
    with pytest.raises(SystemExit) as ended:
        console.run(app, [str(word) for word in words])
    assert ended.value.code == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["step"] == 1
    assert Path(report["file"]).is_file()


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rate": 0.0}, {"dtype": "int8"}], ids=str)
def test_impossible_settings_are_refused(wrong, model, store, tmp_path) -> None:
    with pytest.raises(SettingsError):
        adapt(settings(model, store, tmp_path / "run", **wrong), print)
