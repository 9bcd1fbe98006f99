"""The app bundle brings no code, and only an approved one is started."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from flwr.app.error import Error
from flwr.cli.install import install_from_fab

from pixcell_share.errors import FormatError, SettingsError
from pixcell_share.federation.app_bundle import (
    build_app_bundle,
    bundle_hash,
    refuse_code,
    source_files,
)
from site_agent.federation.approvals import Approvals
from site_agent.federation.executor import UNAPPROVED, UnapprovedError, checked, wordless


def with_file(name: str, content: str) -> bytes:
    """Our bundle with one more file that its own list vouches for."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(build_app_bundle())) as ours,
        zipfile.ZipFile(made, "w") as theirs,
    ):
        for entry in ours.namelist():
            text = ours.read(entry)
            if entry == ".info/CONTENT":
                digest = hashlib.sha256(content.encode()).hexdigest()
                text += f"\n{name},{digest},{len(content) * 8}".encode()
            theirs.writestr(entry, text)
        theirs.writestr(name, content)
    return made.getvalue()


def test_it_is_the_same_every_time_and_brings_no_code() -> None:
    bundle = build_app_bundle()
    assert bundle == build_app_bundle()
    refuse_code(bundle)
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".py")]


def test_flower_builds_the_same_from_the_source(tmp_path: Path) -> None:
    folder = tmp_path / "pixcell-share"
    folder.mkdir()
    for name, content in source_files().items():
        (folder / name).write_bytes(content)
    program = "from flwr.cli.app import app; app()"
    words = [sys.executable, "-c", program, "build", "--app", str(folder)]
    from pixcell_share.federation.environment import quiet_environment

    environment = quiet_environment(tmp_path / "flower")
    subprocess.run(words, check=True, cwd=tmp_path, env=environment, capture_output=True)
    built = next(tmp_path.glob("*.fab"))
    assert built.read_bytes() == build_app_bundle()


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals(tmp_path / "approved.json")


def test_only_an_approved_bundle_is_unpacked(
    approvals: Approvals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    install = checked(approvals, install_from_fab)
    bundle = build_app_bundle()
    with pytest.raises(UnapprovedError):
        install(bundle, skip_prompt=True)
    assert not (tmp_path / "flower").exists()
    approvals.approve(bundle_hash(bundle).upper())
    assert (install(bundle, skip_prompt=True) / "pyproject.toml").exists()
    approvals.withdraw(bundle_hash(bundle))
    with pytest.raises(UnapprovedError):
        install(bundle, skip_prompt=True)


@pytest.mark.parametrize("name", ["site_agent/federation/client_app.py", "sitecustomize.py"])
def test_a_bundle_with_code_is_not_unpacked_even_if_it_is_approved(
    approvals: Approvals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    bundle = with_file(name, "raise SystemExit('ran')")
    approvals.approve(bundle_hash(bundle))
    with pytest.raises(UnapprovedError):
        checked(approvals, install_from_fab)(bundle, skip_prompt=True)
    assert not (tmp_path / "flower").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\3\4" + bytes(100_000)])
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(FormatError):
        refuse_code(content)


def test_the_hub_is_told_no_words_of_an_exception() -> None:
    make = wordless(Error)
    assert make(code=0, reason="<class 'OSError'>:<'/data/wsi/Mueller.svs'>").reason == ""
    assert make(code=0, reason=f"<class '{UnapprovedError.__name__}'>:<''>").reason == UNAPPROVED


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "a" * 63])
def test_a_hash_has_to_be_whole(approvals: Approvals, text: str) -> None:
    with pytest.raises(SettingsError):
        approvals.approve(text)
