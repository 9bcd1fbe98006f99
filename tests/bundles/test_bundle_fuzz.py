"""Whatever the bytes are, reading them ends in an error of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pixcell_share.bundles import BundleSummary, SiteKey, verify_bundle
from pixcell_share.bundles._codec import read_audit, read_manifest
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.errors import BundleError, FormatError
from tests.bundles.forging import MANIFEST, payload_of, sign_anew

hypothesis = pytest.importorskip("hypothesis", reason="needs the extra `dev`")
st = hypothesis.strategies
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
quick = hypothesis.settings(max_examples=200, deadline=None, derandomize=True)


@quick
@hypothesis.given(st.binary(max_size=300))
def test_any_bytes_as_an_envelope(data: bytes) -> None:
    with pytest.raises(BundleError):
        Envelope.from_bytes(data, "x")


@quick
@hypothesis.given(JSON)
def test_any_json_as_a_statement(value: Any) -> None:
    data = json.dumps(value).encode()
    for read in (read_manifest, read_audit):
        with pytest.raises(FormatError):
            read(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    nested = [
        _places(child, (*path, step)) if isinstance(child, (dict, list)) and child else []
        for step, child in steps
    ]
    here = list(value) if isinstance(value, dict) else range(len(value))
    return [(*path, step) for step in here] + [place for places in nested for place in places]


@quick
@hypothesis.given(st.data())
def test_any_value_in_any_field_of_the_manifest(good: BundleSummary, data: Any) -> None:
    """Refused, or read as exactly what is written: never a crash, never another value."""
    statement = payload_of(good.folder / MANIFEST)
    *path, last = data.draw(st.sampled_from(_places(statement)))
    place = statement
    for step in path:
        place = place[step]
    place[last] = data.draw(JSON)
    try:
        manifest = read_manifest(json.dumps(statement).encode())
    except FormatError as error:
        assert error.cause.isprintable()
        assert MANIFEST in error.cause
        return
    cohort = manifest.cohort
    assert [cohort.site, cohort.mpp, cohort.tile_px] == [
        statement["predicate"]["site"]["name"],
        statement["predicate"]["tiles"]["mpp"],
        statement["predicate"]["tiles"]["px"],
    ]


def test_a_lone_surrogate_is_not_printed(bundle: Path, key: SiteKey) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["predicate"]["site"]["name"] = "PLACE"

    sign_anew(bundle, key, edit_manifest=edit)
    payload = Envelope.from_bytes((bundle / MANIFEST).read_bytes(), MANIFEST).payload
    payload = payload.replace(b'"PLACE"', b'"a\\ud800"')
    (bundle / MANIFEST).write_bytes(Envelope.sign(payload, key).to_bytes())
    with pytest.raises(FormatError) as caught:
        verify_bundle(bundle, [key.public])
    caught.value.cause.encode()
