"""`pixcell-hub verify` as a person types it, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pixcell_share.bundles import SiteKey, write_bundle
from tests.bundles.forging import COHORT, PASSED, make_tiles

COMMAND = [sys.executable, "-c", "from hub_server.cli import main; main()"]


def hub(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(argument) for argument in arguments]
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, its site's public key, and another site's."""
    folder = tmp_path_factory.mktemp("sent")
    key = SiteKey.create(folder / "a.key")
    (folder / "a.pub").write_bytes(key.public_pem)
    (folder / "b.pub").write_bytes(SiteKey.create(folder / "b.key").public_pem)
    write_bundle(folder / "bundle", COHORT, make_tiles(12), PASSED, key, count=12)
    return folder


def test_a_good_bundle_is_accepted(sent: Path) -> None:
    done = hub("verify", sent / "bundle", "--trust", sent / "a.pub")
    assert done.returncode == 0, done.stderr
    key_id = SiteKey.load(sent / "a.key").key_id
    for words in (
        *("accepted  Uniklinik Köln", key_id, "12 of 32 px at 0.5 µm/px", "PASS"),
        *("CC-BY-NC-4.0 (no commercial use)", "No commercial use", "near_copies 0"),
    ):
        assert words in done.stdout
    assert str(sent) not in done.stdout


def test_json_is_one_object(sent: Path) -> None:
    done = hub("verify", sent / "bundle", "--trust", sent / "b.pub", "--trust", sent / "a.pub",
               "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accepted"] is True
    assert found["counts"] == {"normal": 6, "tumour": 6}
    assert found["noncommercial"] is True
    assert found["audit"]["verdict"] == "PASS"
    assert found["exit_code"] == 0


def test_a_spoiled_bundle_is_refused_by_name(sent: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(sent / "bundle", tmp_path / "bundle"))
    (bundle / "card.md").write_text("changed")
    done = hub("verify", bundle, "--trust", sent / "a.pub")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: card.md differs from its signed digest"
    assert "->" in done.stderr.splitlines()[1]
    assert "accepted" not in done.stdout
    as_json = hub("verify", bundle, "--trust", sent / "a.pub", "--json")
    assert as_json.returncode == 1
    found = json.loads(as_json.stdout)
    assert found["exit_code"] == 1
    assert found["error"]["code"] == "digest"
    assert str(tmp_path) not in as_json.stdout


def test_a_wrong_key_is_told_with_both_fingerprints(sent: Path) -> None:
    done = hub("verify", sent / "bundle", "--trust", sent / "b.pub")
    assert done.returncode == 1
    assert SiteKey.load(sent / "a.key").key_id in done.stderr
    assert "not trusted" in done.stderr


def test_a_private_key_is_not_taken_for_a_public_one(sent: Path) -> None:
    done = hub("verify", sent / "bundle", "--trust", sent / "a.key")
    assert done.returncode == 1
    assert "is a private key" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "absent", "--trust", "a.pub"],
        ["verify", "."],
        ["verify", ".", "--nonsense"],
        ["nonsense"],
    ],
)
def test_bad_usage_ends_with_2(arguments: list[str]) -> None:
    done = hub(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    with_json = hub(*arguments, "--json")
    assert with_json.returncode == 2
    assert json.loads(with_json.stdout.splitlines()[-1])["error"]["code"] == "usage"


def test_help_has_examples_that_can_be_copied() -> None:
    assert "pixcell-hub verify ./bundle --trust hospital-a.pub" in hub("--help").stdout
    page = hub("verify", "--help").stdout
    assert "pixcell-hub verify ./bundle --trust hospital-a.pub" in page
    for option in ("--trust", "--json", "--debug"):
        assert option in page


def test_a_traceback_is_shown_only_with_debug(sent: Path) -> None:
    plain = hub("verify", sent, "--trust", sent / "a.pub")
    assert "Traceback" not in plain.stderr
    debug = hub("verify", sent, "--trust", sent / "a.pub", "--debug")
    assert "Traceback" in debug.stderr
    assert plain.returncode == debug.returncode == 1


def test_a_closed_pipe_is_no_drama(sent: Path) -> None:
    """As in `pixcell-hub verify … | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, "verify", str(sent / "bundle"), "--trust", str(sent / "a.pub")]
    with os.fdopen(writing, "wb") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
