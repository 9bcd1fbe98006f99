"""Proofs about the log that one checks with the hub's public key alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hub_server.log import (
    ConsistencyProof,
    HubLog,
    InclusionProof,
    prove_consistency,
    prove_inclusion,
    read_proof,
)
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import HubLogError, NotFoundError


@dataclasses.dataclass
class Logged:
    folder: Path
    key: SiteKey
    notes: list[bytes]
    """Checkpoint after each number of acts, from none on."""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder = tmp_path_factory.mktemp("log")
    key = SiteKey.create(folder / "hub.key")
    log = HubLog(folder / "log", key)
    notes = [log.checkpoint()]
    for number in range(11):
        log.append("x", actor="hub", subject=f"Köln {number}")
        notes.append(log.checkpoint())
    return Logged(folder / "log", key, notes)


def test_each_act_is_proven(logged: Logged) -> None:
    for sequence in range(1, 12):
        made = prove_inclusion(logged.folder, logged.key.public, sequence)
        read = read_proof(made.to_json())
        assert isinstance(read, InclusionProof)
        assert read == made
        act, mark = read.check(logged.key.public)
        assert (act.sequence, act.subject, mark.size) == (sequence, f"Köln {sequence - 1}", 11)


def test_growth_is_proven_from_each_checkpoint(logged: Logged) -> None:
    for size in range(1, 12):
        made = prove_consistency(logged.folder, logged.key.public, logged.notes[size])
        read = read_proof(made.to_json())
        assert isinstance(read, ConsistencyProof)
        older, newer = read.check(logged.key.public)
        assert (older.size, newer.size) == (size, 11)


def test_a_proof_of_something_else_is_refused(logged: Logged, tmp_path: Path) -> None:
    public = logged.key.public
    good = prove_inclusion(logged.folder, public, 4)
    other = prove_inclusion(logged.folder, public, 5)
    for bad in (
        dataclasses.replace(good, line=good.line.replace("Köln 3", "Köln 9")),
        dataclasses.replace(good, line=other.line, sequence=5),
        dataclasses.replace(good, sequence=5),
        dataclasses.replace(good, hashes=good.hashes[::-1]),
        dataclasses.replace(good, hashes=("zz", *good.hashes[1:])),
        dataclasses.replace(good, checkpoint=logged.notes[7].decode()),
        dataclasses.replace(good, checkpoint=good.checkpoint.replace("11", "12", 1)),
    ):
        with pytest.raises(HubLogError):
            bad.check(public)
    with pytest.raises(HubLogError, match="the hub's key is"):
        good.check(SiteKey.create(tmp_path / "other.key").public)
    grown = prove_consistency(logged.folder, public, logged.notes[4])
    for bad_growth in (
        dataclasses.replace(grown, older=logged.notes[5].decode()),
        dataclasses.replace(grown, older=grown.newer, newer=grown.older),
        dataclasses.replace(grown, hashes=()),
    ):
        with pytest.raises(HubLogError):
            bad_growth.check(public)


def test_there_is_no_proof_of_what_is_not_there(logged: Logged) -> None:
    public = logged.key.public
    for sequence in (0, 12, -1):
        with pytest.raises(NotFoundError, match="no act"):
            prove_inclusion(logged.folder, public, sequence)
    with pytest.raises(NotFoundError, match="before the first act"):
        prove_consistency(logged.folder, public, logged.notes[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "7",
        "[" * 100_000,
        '{"line": 1, "sequence": 1, "hashes": [], "checkpoint": ""}',
    ],
)
def test_a_file_that_is_no_proof_is_refused(text: str) -> None:
    for read in (read_proof, InclusionProof.from_json, ConsistencyProof.from_json):
        with pytest.raises(HubLogError, match="no proof"):
            read(text)


def test_a_proof_with_wrong_kinds_inside_is_refused(logged: Logged) -> None:
    values = json.loads(prove_inclusion(logged.folder, logged.key.public, 4).to_json())
    values["hashes"] = [1, 2, 3]
    with pytest.raises(HubLogError, match="no proof"):
        InclusionProof.from_json(json.dumps(values)).check(logged.key.public)
