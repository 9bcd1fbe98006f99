"""An audit that looks at the very bytes, and words that may not leave the site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from pixcell_share.bundles import (
    AuditResult,
    AuditTest,
    Secrets,
    SiteKey,
    verify_bundle,
    write_bundle,
)
from pixcell_share.errors import AuditError, ReleaseRefusedError
from tests.bundles.forging import COHORT, PASSED, make_tiles, without


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_audit_sees_shards_and_preview_and_nothing_signed(key: SiteKey, tmp_path: Path) -> None:
    seen: dict[str, bytes] = {}

    def audit(folder: Path) -> AuditResult:
        seen.update(contents(folder))
        with h5py.File(folder / "shard-00000.h5") as file:
            assert len(file["images"]) == len(file["labels"])
        return PASSED

    folder = tmp_path / "b"
    write_bundle(folder, COHORT, make_tiles(12), audit, key, count=12, shard_bytes=85_000)
    assert sorted(seen) == ["preview.png", "shard-00000.h5", "shard-00001.h5"]
    written = contents(folder)
    assert all(written[name] == data for name, data in seen.items()), "the very bytes"
    assert verify_bundle(folder, [key.public]).audit == PASSED


def test_how_the_audit_comes_changes_no_byte(key: SiteKey, tmp_path: Path) -> None:
    for name, audit in (("a", PASSED), ("b", lambda _: PASSED)):
        write_bundle(
            *(tmp_path / name, COHORT, make_tiles(12), audit, key),
            count=12,
            forbidden=Secrets(slides=("absent-slide.svs",)) if name == "b" else None,
        )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def refused(_: Path) -> AuditResult:
    return AuditResult("REFUSE", (AuditTest("attributes", False, {"findings": 1}),))


def invalid(_: Path) -> AuditResult:
    return AuditResult("INVALID", (AuditTest("planted_copies", False),))


def incomplete(_: Path) -> AuditResult:
    return without("attributes")


def breaks(_: Path) -> AuditResult:
    raise AuditError("no holdout", "set some aside")


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        (refused, "attributes failed"),
        (invalid, "INVALID"),
        (incomplete, "attributes did not run"),
        (breaks, "no holdout"),
    ],
)
def test_an_audit_that_does_not_pass_leaves_nothing(
    key: SiteKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    audit: Callable[[Path], AuditResult],
    words: str,
) -> None:
    signed: list[bytes] = []
    monkeypatch.setattr(SiteKey, "sign", lambda _, message: signed.append(message))
    with pytest.raises((ReleaseRefusedError, AuditError), match=words):
        write_bundle(tmp_path / "b", COHORT, make_tiles(4), audit, key, count=4)
    assert signed == []
    assert not list(tmp_path.iterdir())


MODEL = COHORT.models[0]


@pytest.mark.parametrize(
    ("secrets", "public", "file", "kind"),
    [
        (Secrets(slides=("PASSED-17.svs",)), {}, None, None),
        (Secrets(users=("pixcell",)), {}, None, None),
        (Secrets(users=("openslide_reader",)), {"word": "openslide"}, "card.md", "user"),
        (Secrets(patients=("P-4711-B",)), {"word": "P-4711-B"}, "card.md", "patient"),
        (Secrets(hosts=("gpu07.west.example",)), {"word": "gpu07"}, "card.md", "host"),
    ],
)
def test_a_forbidden_word_stops_the_signature(
    key: SiteKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    secrets: Secrets,
    public: dict[str, str],
    file: str | None,
    kind: str | None,
) -> None:
    """The word comes in by a change of the card, as a careless change of the program would."""
    from pixcell_share.bundles import write

    real = write.render_card
    word = public.get("word", "")
    monkeypatch.setattr(write, "render_card", lambda *a: f"{real(*a)}\n{word}\n")
    arguments = (tmp_path / "b", COHORT, make_tiles(4), PASSED, key)
    if file is None:
        assert write_bundle(*arguments, count=4, forbidden=secrets).total_bytes
        return
    signed: list[bytes] = []
    monkeypatch.setattr(SiteKey, "sign", lambda _, message: signed.append(message))
    with pytest.raises(ReleaseRefusedError) as caught:
        write_bundle(*arguments, count=4, forbidden=secrets)
    assert caught.value.cause.startswith(f"{file} holds the name of a {kind}")
    assert word not in caught.value.cause + caught.value.remedy
    assert any(word.casefold() in note.casefold() for note in caught.value.__notes__)
    assert signed == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("statement", ["audit", "manifest"])
def test_the_statements_are_searched_before_they_are_signed(
    key: SiteKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    from pixcell_share.bundles import write

    name = f"{statement}_statement"
    real = getattr(write, name)

    def careless(*arguments: object) -> object:
        made = real(*arguments)
        return replace(made, predicate={**made.predicate, "made_on": "gpu07"})

    monkeypatch.setattr(write, name, careless)
    signed: list[bytes] = []
    monkeypatch.setattr(SiteKey, "sign", lambda _, message: signed.append(message))
    with pytest.raises(ReleaseRefusedError, match=f"{statement}.dsse.json holds the name of a ho"):
        write_bundle(
            *(tmp_path / "b", COHORT, make_tiles(4), PASSED, key),
            count=4,
            forbidden=Secrets(hosts=("gpu07",)),
        )
    assert signed == []


def test_a_date_stops_the_signature_too(
    key: SiteKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixcell_share.bundles import write

    monkeypatch.setattr(write, "croissant", lambda *_: {"dateCreated": "2026-11-22"})
    with pytest.raises(ReleaseRefusedError, match=r"croissant.json holds a date or time"):
        write_bundle(
            *(tmp_path / "b", COHORT, make_tiles(4), PASSED, key), count=4, forbidden=Secrets()
        )


def test_names_that_are_public_or_common_stop_nothing(key: SiteKey, tmp_path: Path) -> None:
    secrets = Secrets(
        slides=("tumour.svs", "1.svs", "slide.svs", "PixCell-256.tif"),
        patients=("Uniklinik", "12", "normal"),
        paths=("/data/wsi/project", "/home/user/slides"),
        hosts=("localhost", "node"),
        users=("root", "admin"),
    )
    made = write_bundle(
        *(tmp_path / "b", COHORT, make_tiles(4), PASSED, key), count=4, forbidden=secrets
    )
    assert verify_bundle(made.folder, [key.public]).manifest.count == 4
