"""``pixcell-train adapt --dp-epsilon``, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixcell_share import console
from pixcell_share.bundles import SiteKey
from pixcell_share.pixcell.load import load_transformer
from pixcell_share.pixcell.lora import load_lora, lora_state
from pixcell_share.privacy.ledger import Ledger
from pixcell_share.training.cli import app
from pixcell_share.training.private import check_envelope
from tests.private.conftest import make_patients_store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    SiteKey.create(folder / "site.key")
    (folder / "site.toml").write_text('site = "a"\n[budget]\nepsilon = 3.0\ndelta = 0.1\n')
    return folder


def command(capsys, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        console.run(app, [str(word) for word in ("adapt", *words)])
    printed = capsys.readouterr()
    return int(ended.value.code), printed.out, printed.err


def words(model: Path, store: Path, home: Path, out: Path, *more: object) -> list[object]:
    return [
        "--model", model, "--latents", store, "--out", out, "--home", home, "--steps", 6,
        "--device", "cpu", "--dtype", "fp32", "--dp-epsilon", 2, "--dp-delta", 0.01,
        "--patients-per-step", 4, "--tiles-per-patient", 3, "--clip", 0.1, *more,
    ]  # fmt: skip


def test_a_lora_and_its_signed_record(model, patients_store, home, tmp_path, capsys) -> None:
    asked = words(model, patients_store, home, tmp_path / "run")
    code, out, err = command(capsys, *asked, "--json")
    assert code == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report["record"]["epsilon"] <= 2 == report["total_epsilon"]
    transformer = load_transformer(model / "transformer")
    load_lora(transformer, report["file"])
    adapter = {name: value.numpy() for name, value in lora_state(transformer).items()}
    key = SiteKey.load(home / "site.key")
    envelope = (tmp_path / "run" / "record.dsse.json").read_bytes()
    said = check_envelope(envelope, [key.public], adapter)
    assert said.record.to_json() == report["record"]
    ledger = Ledger(home, key).verify()
    assert [len(release.bundles) for release in ledger.releases] == [1]
    again, text, _ = command(capsys, *asked)
    assert again == 0
    assert "epsilon 1.9" in text and "delta 0.01 for each patient" in text
    assert len(Ledger(home, key).verify().releases) == 1
    assert (tmp_path / "run" / "record.dsse.json").read_bytes() == envelope
    refused, _, why = command(
        capsys, *words(model, patients_store, home, tmp_path / "b"), "--seed", 1
    )
    assert refused == 4
    assert "budget" in why


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--dp-epsilon", "inf"], "protects no patient"),
        (["--dp-delta", "0.2"], "not below 1 / 9"),
        (["--patients-per-step", "10"], "9 in all"),
        (["--micro-batch", "2"], "micro-batch of 2"),
        (["--home", "nowhere"], "no key at"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_promised_is_refused(
    more, says, model, patients_store, home, tmp_path, capsys
) -> None:
    code, _, err = command(capsys, *words(model, patients_store, home, tmp_path / "r", *more))
    assert code in (1, 2)
    assert says in " ".join(err.split())
    assert not (home / "ledger.jsonl").exists(), "nothing is charged for what cannot be done"


def test_slides_without_patients_are_refused(model, home, tmp_path, capsys) -> None:
    store = make_patients_store(tmp_path / "store", ["", "b"])
    code, _, err = command(capsys, *words(model, store, home, tmp_path / "run"))
    assert code == 2
    assert "case_id" in err
    assert not (home / "ledger.jsonl").exists()
