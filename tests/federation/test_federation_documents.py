"""Signed documents, and asks: what is believed, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given
from hypothesis import strategies as some
from safetensors.numpy import save

from pixcell_share.bundles import SiteKey
from pixcell_share.federation import (
    Answer,
    CohortAsk,
    Outcome,
    Reason,
    RefusedRoundError,
    Request,
    RoundKind,
    Sealed,
    SealError,
)
from pixcell_share.federation.records import arrays_digest, pack, unpack

REQUEST = Request("a" * 32, RoundKind.COHORT, {"tiles_per_class": 4})


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    return SiteKey.create(tmp_path_factory.mktemp("keys") / "hub.key")


def test_a_document_comes_back_as_it_was_signed(key: SiteKey) -> None:
    sealed = Sealed.seal(REQUEST.document(), "request", key)
    assert Request.of(sealed.open("request", key.key_id)) == REQUEST


def test_a_signature_means_one_thing_only(key: SiteKey, tmp_path: Path) -> None:
    sealed = Sealed.seal(REQUEST.document(), "request", key)
    other = SiteKey.create(tmp_path / "other.key")
    changed = sealed.payload.replace(b"4", b"5")
    for wrong, purpose, signer in (
        (sealed, "answer", key),
        (sealed, "request", other),
        (Sealed(changed, sealed.signer, sealed.signature), "request", key),
        (Sealed(sealed.payload, other.public_pem.decode(), sealed.signature), "request", other),
        (Sealed(sealed.payload, "no key", sealed.signature), "request", key),
    ):
        with pytest.raises(SealError):
            wrong.open(purpose, signer.key_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": "../../etc"},
        {"round": 7},
        {"kind": "shell"},
        {"step": -1},
        {"step": True},
        {"ask": []},
        {"arrays_sha256": "zz"},
        {"more": 1},
    ],
)
def test_a_malformed_request_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedRoundError) as refused:
        Request.of({**REQUEST.document(), **changes})
    assert refused.value.reason is Reason.MALFORMED


@given(
    some.dictionaries(
        some.sampled_from(["tiles_per_class", "model", "mix", "dp_epsilon", "steps", "x"]),
        some.one_of(some.integers(), some.floats(), some.text(), some.booleans(), some.none()),
        max_size=4,
    )
)
def test_an_ask_is_read_or_refused_and_nothing_else(document: dict[str, Any]) -> None:
    try:
        ask = CohortAsk.of(document)
    except RefusedRoundError as refused:
        assert refused.reason is Reason.MALFORMED
    else:
        assert 1 <= ask.tiles_per_class <= 1_000_000 and ask.dp_epsilon >= 0


def test_arrays_travel_and_their_digest_knows_each_number() -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, 2])}
    sealed = Sealed(b"{}", "signer", b"signature")
    found, came = unpack(pack(sealed, arrays))
    assert found == sealed and arrays_digest(came) == arrays_digest(arrays)
    came["b"][1, 2] += 1
    assert arrays_digest(came) != arrays_digest(arrays)
    assert arrays_digest({}) == ""


def test_all_arrays_are_one_object_of_flower_and_hardly_more_than_their_bytes() -> None:
    chance = np.random.default_rng(0)
    arrays = {f"a{n}": chance.normal(size=(16, 64)).astype(np.float32) for n in range(100)}
    content = pack(Sealed(b"{}", "signer", b"signature"), arrays)
    objects = get_all_nested_objects(content)
    sent = sum(len(each.deflate()) for each in objects.values())
    assert len(objects) == 5 and sent < 1.03 * sum(array.nbytes for array in arrays.values())
    turned = {"a": arrays["a0"].T}
    _, came = unpack(pack(Sealed(b"{}", "signer", b"signature"), turned))
    np.testing.assert_array_equal(came["a"], turned["a"])


def test_a_message_of_another_form_is_none_of_ours() -> None:
    good = pack(Sealed(b"{}", "signer", b"signature"))
    text = RecordDict({"sealed": ConfigRecord({"payload": "x", "signer": "y", "signature": "z"})})
    pickled = ArrayRecord({"safetensors": Array(np.array(["pickled"]))})
    other_name = ArrayRecord({"a": Array(np.zeros(3, np.float32))})
    yes = save({"a": np.array([True])})
    no_numbers = ArrayRecord({"safetensors": Array("uint8", (len(yes),), "safetensors", yes)})
    forms = [RecordDict(), text]
    for record in (pickled, other_name, no_numbers):
        forms.append(RecordDict({**good, "arrays": record}))
    for content in forms:
        with pytest.raises(SealError):
            unpack(content)


def test_an_answer_is_read_strictly() -> None:
    said = Answer("a" * 32, RoundKind.COHORT, 0, "b" * 64, Outcome.REFUSED, Reason.TILES)
    assert Answer.of(said.document()) == said
    for changes in ({"outcome": "maybe"}, {"reason": "/data/slides"}, {"step": "0"}, {"x": 1}):
        with pytest.raises(ValueError):
            Answer.of({**said.document(), **changes})
