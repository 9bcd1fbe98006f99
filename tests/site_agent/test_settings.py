from __future__ import annotations

from pathlib import Path

import pytest

from pixcell_share.errors import SettingsError
from site_agent.settings import Part, SynthesisSettings


def test_the_parts_of_a_run_take_each_slide_once() -> None:
    parts = [Part.parse(f"{number}/3") for number in (1, 2, 3)]
    for position in range(10):
        assert sum(part.takes(position) for part in parts) == 1


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "a/b", "2/8/1", "-1/3"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="array"):
        Part.parse(text)


def test_the_encoder_follows_the_model(tmp_path: Path) -> None:
    assert SynthesisSettings(slides=tmp_path, out=tmp_path).encoder_name == "nano"
    pixcell = SynthesisSettings(slides=tmp_path, out=tmp_path, model="StonyBrook-CVLab/PixCell-256")
    assert pixcell.encoder_name == "uni2h"


def test_paths_and_parts_do_not_decide_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one = SynthesisSettings(slides=tmp_path, out=tmp_path / "x")
    other = SynthesisSettings(slides=tmp_path / "a", out=tmp_path / "y", part=Part(1, 2))
    assert one.identity() == other.identity()
    assert one.identity() != SynthesisSettings(slides=tmp_path, out=tmp_path, per_tile=2).identity()


def test_what_cannot_work_is_refused_at_once(tmp_path: Path) -> None:
    for wrong in ({"per_tile": 0}, {"max_tiles": 0}, {"dtype": "fp8"}, {"slides": tmp_path / "no"}):
        with pytest.raises(SettingsError):
            SynthesisSettings(**{"slides": tmp_path, "out": tmp_path, **wrong})
    with pytest.raises(SettingsError, match="device"):
        _ = SynthesisSettings(slides=tmp_path, out=tmp_path, device="abacus").torch_device
