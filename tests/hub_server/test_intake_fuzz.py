"""A member with a fuzzer: whatever it signs is refused with a reason, or is the very same cohort.

Bounded and repeatable: hypothesis with a fixed seed, few examples, since each may start a process.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from hub_server.home import HubHome
from hub_server.intake import IntakeOutcome, Reason, intake_folder, open_shards, withdraw
from hub_server.registry import Cohort, CohortState
from tests.bundles.forging import AUDIT, MANIFEST, make_tiles, payload_of, sign_anew
from tests.bundles.hostile_corpus.keys import make_key
from tests.bundles.hostile_corpus.laying import CORPUS, GOOD
from tests.bundles.hostile_shards import COUNT, SHARD
from tests.hub_server.attacked_hub import make_hub

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
STRUCTURES = 2048
"""HDF5's own structures lie before the pixels."""


def bounded(examples: int) -> Callable[[Any], Any]:
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    return make_hub(tmp_path_factory.mktemp("fuzzed") / "hub")


def taken(hub: HubHome, spoil: Callable[[Path], object]) -> IntakeOutcome:
    """Take in a spoiled copy of the good bundle; what is accepted has the good tiles."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(shutil.copytree(CORPUS / GOOD, Path(folder) / "bundle"))
        spoil(bundle)
        outcome = intake_folder(hub, bundle)
    if outcome.accepted:
        check_same_tiles(hub, outcome.cohort)
        withdraw(hub, outcome.cohort, actor="operator", reason="the next example")
    else:
        assert outcome.state is CohortState.REJECTED
        assert outcome.reason in set(Reason)
        assert outcome.detail.isprintable()
    return outcome


def check_same_tiles(hub: HubHome, digest: str) -> None:
    registry = hub.registry()
    with registry.reading() as session:
        row = session.get_one(Cohort, digest)
    registry.close()
    (shard,) = open_shards(hub.storage(), row.canonical or {})
    images, labels = good_tiles()
    np.testing.assert_array_equal(shard.images, images)
    np.testing.assert_array_equal(shard.labels, labels)


def good_tiles() -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*make_tiles(COUNT), strict=True)
    return np.stack(images), np.array(labels)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for step, child in steps:
        found.append((*path, step))
        if isinstance(child, (dict, list)):
            found += places(child, (*path, step))
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = new


@bounded(25)
@hypothesis.given(data=st.data())
def test_any_value_in_any_field_of_a_statement(hub: HubHome, data: Any) -> None:
    name = data.draw(st.sampled_from([MANIFEST, AUDIT]))
    path = data.draw(st.sampled_from(places(payload_of(CORPUS / GOOD / name))))
    new = data.draw(JSON)

    def spoil(bundle: Path) -> None:
        edit = {"edit_manifest" if name == MANIFEST else "edit_audit": lambda s: put(s, path, new)}
        sign_anew(bundle, make_key("member"), **edit)

    taken(hub, spoil)


@bounded(8)
@hypothesis.given(
    changes=st.lists(
        st.tuples(st.integers(8, STRUCTURES - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
)
def test_any_bytes_in_the_structures_of_a_shard(
    hub: HubHome, changes: list[tuple[int, int]]
) -> None:
    def spoil(bundle: Path) -> None:
        data = bytearray((bundle / SHARD).read_bytes())
        for place, value in changes:
            data[place] = value
        (bundle / SHARD).write_bytes(data)
        sign_anew(bundle, make_key("member"))

    taken(hub, spoil)


@bounded(5)
@hypothesis.given(start=st.integers(0, 20_000), length=st.integers(0, 4096), cut=st.booleans())
def test_a_shard_with_a_part_cut_out_or_doubled(
    hub: HubHome, start: int, length: int, cut: bool
) -> None:
    def spoil(bundle: Path) -> None:
        data = (bundle / SHARD).read_bytes()
        part = data[start : start + length]
        middle = b"" if cut else part + part
        (bundle / SHARD).write_bytes(data[:start] + middle + data[start + length :])
        sign_anew(bundle, make_key("member"))

    taken(hub, spoil)


@bounded(25)
@hypothesis.given(
    place=st.integers(0, 1 << 20),
    bit=st.integers(0, 7),
    name=st.sampled_from(
        ["audit.dsse.json", "card.md", "croissant.json", "manifest.dsse.json", "preview.png", SHARD]
    ),
)
def test_any_bit_of_any_file_without_the_key(hub: HubHome, place: int, bit: int, name: str) -> None:
    def spoil(bundle: Path) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[place % len(data)] ^= 1 << bit
        (bundle / name).write_bytes(data)

    assert not taken(hub, spoil).accepted


def test_the_fuzzer_accepts_the_good_bundle(tmp_path: Path) -> None:
    """Else the tests above could pass for a fault of the fuzzer."""
    assert taken(make_hub(tmp_path / "hub"), lambda _: None).accepted
