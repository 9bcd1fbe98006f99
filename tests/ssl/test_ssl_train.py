"""A training from tiles to an encoder, and that it learns."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pixcell_share.encoders import load_encoder
from pixcell_share.encoders.checkpoint import read_state_dict
from pixcell_share.encoders.transform import TileTransform
from pixcell_share.errors import LossError, SettingsError, WorkFolderError
from pixcell_share.ssl import SilentView, preset, train_encoder
from pixcell_share.ssl.architectures import ARCHITECTURES, architecture
from pixcell_share.ssl.crops import ColourSettings
from pixcell_share.ssl.distillation import Distillation, build
from pixcell_share.ssl.export import write_weights
from pixcell_share.ssl.vit import VisionTransformer
from pixcell_share.training.logs import read_log
from tests.ssl.conftest import MakeSettings, drawn_tiles, logged, source


def train(settings: object, shards: Path, out: Path, **more: object) -> object:
    return train_encoder(settings, [source(shards, **more)], out, SilentView())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": {"targets": "sinkhorn_knopp"}, "ibot_head": {"prototypes": 16, "hidden": 16}},
        {"bf16": True, "crops": {"locals": 0}},
        {"global_batch": 1, "masks": {"probability": 0.0}},
    ],
    ids=["centring", "sinkhorn", "bf16, no local crops", "one tile, no masks"],
)
def test_every_kind_of_run_ends_with_finite_losses(
    shards: Path, settings: MakeSettings, tmp_path: Path, changes: dict[str, object]
) -> None:
    trained = train(settings(**changes), shards, tmp_path / "run")
    assert trained.step == trained.steps == 4 and not trained.stopped
    lines = read_log(tmp_path / "run")
    assert len(lines) == 4
    assert all(np.isfinite(line["loss"]) and line["images_per_second"] > 0 for line in lines)
    assert load_encoder(str(trained.folder)).embed(drawn_tiles(2)[0]).shape == (2, 192)


def test_micro_batches_train_nearly_as_the_whole_batch(
    shards: Path, settings: MakeSettings, tmp_path: Path
) -> None:
    """KoLeo and stochastic depth look at a micro-batch; without them only rounding differs."""
    same = {"loss": {"koleo": 0.0}, "drop_path": 0.0}
    train(settings(**same), shards, tmp_path / "whole")
    train(settings(**same, micro_batch=2), shards, tmp_path / "parts")
    whole, parts = logged(tmp_path / "whole"), logged(tmp_path / "parts")
    for name in ("loss", "dino", "ibot", "grad_norm"):
        assert [line[name] for line in parts] == pytest.approx(
            [line[name] for line in whole], rel=1e-3
        )


def test_the_teacher_follows_the_student(settings: MakeSettings) -> None:
    model = build(settings())
    before = model.teacher.backbone.norm.weight.clone()
    with torch.no_grad():
        model.student.backbone.norm.weight.add_(1)
    model.after_step(0.75, lambda values: values)
    torch.testing.assert_close(model.teacher.backbone.norm.weight, before + 0.25)
    assert not any(weight.requires_grad for weight in model.teacher.parameters())


def test_a_loss_that_is_not_finite_stops_the_run(
    shards: Path, settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight goes bad after the second step, as with a rate too high; the checkpoint stays."""
    whole = Distillation.after_step

    def spoil(self: Distillation, momentum: float, add_up: object) -> None:
        whole(self, momentum, add_up)  # type: ignore[arg-type]
        spoil.calls += 1  # type: ignore[attr-defined]
        if spoil.calls == 3:  # type: ignore[attr-defined]
            self.student.backbone.norm.weight.data[0] = float("nan")

    spoil.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Distillation, "after_step", spoil)
    with pytest.raises(LossError, match=r"step 4: the loss .*shard-0000"):
        train(settings(), shards, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() == "step-00000002\n"


def test_other_settings_or_data_are_refused(
    shards: Path, settings: MakeSettings, tmp_path: Path
) -> None:
    train(settings(), shards, tmp_path / "run")
    with pytest.raises(WorkFolderError, match=r"ssl\.drop_path = 0\.3, not 0\.1"):
        train(settings(drop_path=0.1), shards, tmp_path / "run")
    with pytest.raises(WorkFolderError, match="digest"):
        train(settings(), shards / "shard-00000.h5", tmp_path / "run")
    with pytest.raises(SettingsError, match="out of range"):
        train_encoder(
            replace(settings(), global_batch=0), [source(shards)], tmp_path / "x", SilentView()
        )


def test_the_card_says_what_it_was_trained_on(
    shards: Path, settings: MakeSettings, tmp_path: Path
) -> None:
    sources = [
        source(shards, name="site *A*", digest="d1", licences=("CC0-1.0",)),
        source(shards / "shard-00000.h5", name="B", role="synthetic", digest="d2",
               licences=("CC-BY-NC-ND-4.0",), noncommercial=True),
    ]  # fmt: skip
    trained = train_encoder(settings(), sources, tmp_path / "run", SilentView(), name="both")
    assert trained.noncommercial and trained.licences == ("CC-BY-NC-ND-4.0", "CC0-1.0")
    card = json.loads((trained.folder / "card.json").read_text())
    named = [(each["name"], each["role"], each["digest"], each["tiles"]) for each in card["data"]]
    assert named == [("site *A*", "real", "d1", 120), ("B", "synthetic", "d2", 50)]
    assert card["noncommercial"] and card["torch_hub"] is None and card["steps"] == 4
    assert str(tmp_path) not in (trained.folder / "card.json").read_text()
    text = (trained.folder / "card.md").read_text()
    assert "no commercial use" in text and r"site \*A\*" in text
    encoder = load_encoder(str(trained.folder))
    assert encoder.name == "both" and encoder.identity.noncommercial
    assert encoder.identity.licence == "CC-BY-NC-ND-4.0; CC0-1.0"
    assert encoder.identity.sha256 == card["files"]["timm/model.safetensors"]


SHRUNK = {"dinov2_vits14": 2, "dinov2_vits14_reg": 2, "dinov2_vitg14": 1, "tiny": 2}


@pytest.mark.parametrize("name", SHRUNK)
def test_every_export_gives_equal_features(name: str, tmp_path: Path) -> None:
    """Full width, few blocks; also through `load_encoder`, and timm at 518 px as it comes."""
    shape = replace(architecture(name), depth=SHRUNK[name])
    torch.manual_seed(0)
    model = VisionTransformer(shape, layer_scale=1.0).eval()
    side = 56 if shape.published else 32
    kwargs = {"depth": shape.depth}
    write_weights(tmp_path, model.state_dict(), shape, side, {"name": "e", "licence": "CC0-1.0"})
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    if shape.timm_name:  # a depth of its own is of this test alone
        config["kwargs"] |= kwargs
        (tmp_path / "timm" / "config.json").write_text(json.dumps(config))
    for file in ("model.safetensors", "model.pth"):
        again = VisionTransformer(shape)
        again.load_state_dict(read_state_dict(tmp_path / file), strict=True)
    tiles = drawn_tiles(2, side=80)[0]
    pixels = TileTransform(input_px=side)(tiles)
    with torch.no_grad():
        ours = model(pixels)
        torch.testing.assert_close(again.eval()(pixels), ours, atol=0, rtol=0)
        loaded = torch.from_numpy(load_encoder(str(tmp_path)).embed(tiles))
        torch.testing.assert_close(loaded, ours, atol=1e-5, rtol=0)


def test_timm_loads_the_hub_file_by_itself() -> None:
    shape = replace(architecture("dinov2_vits14"), depth=1)
    torch.manual_seed(0)
    model = VisionTransformer(shape, layer_scale=1.0).eval()
    peer = timm.create_model(shape.timm_name, pretrained=False, num_classes=0, depth=1).eval()
    peer.load_state_dict(
        timm.models.vision_transformer.checkpoint_filter_fn(dict(model.state_dict()), peer)
    )
    images = torch.randn(1, 3, 518, 518)
    with torch.no_grad():
        torch.testing.assert_close(model(images), peer(images), atol=1e-5, rtol=0)


def test_timm_has_every_published_architecture() -> None:
    for shape in ARCHITECTURES.values():
        if shape.timm_name is not None:
            assert timm.is_model(shape.timm_name), shape.name


def probe_accuracy(folder: Path, count: int = 300) -> float:
    """Of a linear classifier, fitted to as many other tiles."""
    encoder = load_encoder(str(folder))
    (known, labels), (asked, wanted) = drawn_tiles(count, seed=7), drawn_tiles(count, seed=8)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    classifier.fit(encoder.embed(known), labels)
    return float(classifier.score(encoder.embed(asked), wanted))


@pytest.mark.slow
def test_it_learns_what_tells_tiles_apart(
    settings: MakeSettings, shards: Path, tmp_path: Path
) -> None:
    """Patterns whose colours say nothing, from a random start."""
    small = preset("small")
    colours = ColourSettings(blur=(0.0, 0.0, 0.0), solarize=0.0)
    quick = replace(
        settings(drop_path=0.0), global_batch=24, micro_batch=24, dino_head=small.dino_head,
        crops=replace(small.crops, global_px=32, local_px=16, colour=colours),
        log_every=10, save_every=1000,
    )  # fmt: skip
    random = replace(quick, schedule=replace(small.schedule, steps=1, warmup_steps=0, rate=1e-9))
    start = probe_accuracy(train(random, shards, tmp_path / "random").folder)
    learning = replace(quick, schedule=replace(small.schedule, steps=100, warmup_steps=6))
    end = probe_accuracy(train(learning, shards, tmp_path / "trained").folder)
    assert end > start + 0.05
    # Uniform targets, to which a head that sees no difference goes, are at log K and half of it:
    # half of the crops are not masked.
    last, uniform = read_log(tmp_path / "trained")[-1], math.log(small.dino_head.prototypes)
    assert last["dino"] < 0.9 * uniform and last["ibot"] < 0.9 * uniform / 2
