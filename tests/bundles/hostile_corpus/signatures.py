"""Signatures: none, too many, by keys that do not count, and JSON that is not what it seems."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_server.intake import Reason
from pixcell_share.bundles import SiteKey
from pixcell_share.bundles._envelope import Envelope
from tests.bundles.forging import MANIFEST, payload_of, sign_anew, sign_file
from tests.bundles.hostile_corpus.case import Case, Spoil
from tests.bundles.hostile_corpus.keys import make_key


def cases() -> list[Case]:
    """All of them."""
    return [*_ENVELOPES, *_KEYS, *_JSON]


def _envelope(edit: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change the envelope; nobody signs it again."""

    def spoil(folder: Path, _key: SiteKey) -> None:
        value = json.loads((folder / MANIFEST).read_bytes())
        edit(value)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        (folder / MANIFEST).write_text(text)

    return spoil


def _second_signature(folder: Path, key: SiteKey) -> None:
    payload = Envelope.from_bytes((folder / MANIFEST).read_bytes(), MANIFEST).payload
    other = Envelope.sign(payload, make_key("other")).to_document()["signatures"][0]
    _envelope(lambda e: e["signatures"].append(other))(folder, key)


def _claims_other_key(folder: Path, key: SiteKey) -> None:
    other = make_key("other").key_id
    _envelope(lambda e: e["signatures"][0].update(keyid=other))(folder, key)


def _payload_type(folder: Path, key: SiteKey) -> None:
    payload = Envelope.from_bytes((folder / MANIFEST).read_bytes(), MANIFEST).payload
    (folder / MANIFEST).write_bytes(Envelope.sign(payload, key, "application/json").to_bytes())


def _changed_after_signing(folder: Path, key: SiteKey) -> None:
    """More tiles than were signed for."""
    statement = payload_of(folder / MANIFEST)
    statement["predicate"]["tiles"]["count"] += 1
    payload = Envelope.sign(json.dumps(statement).encode(), key).to_document()["payload"]
    _envelope(lambda e: e.update(payload=payload))(folder, key)


def _spaces(folder: Path, _key: SiteKey) -> None:
    value = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(value, sort_keys=True))


def _names_other_key(folder: Path, key: SiteKey) -> None:
    other = make_key("other").key_id
    sign_anew(folder, key, edit_manifest=lambda m: m["predicate"]["site"].update(key_id=other))


def _signed_by(name: str) -> Spoil:
    """A whole good bundle of another key."""

    def spoil(folder: Path, _key: SiteKey) -> None:
        key = make_key(name)
        sign_anew(
            folder, key, edit_manifest=lambda m: m["predicate"]["site"].update(key_id=key.key_id)
        )

    return spoil


def _payload(payload: bytes) -> Spoil:
    return lambda folder, key: sign_file(folder / MANIFEST, payload, key)


_ENVELOPES = (
    Case(
        *("unsigned", Reason.SIGNATURE_COUNT),
        "There is no signature.",
        _envelope(lambda e: e.update(signatures=[])),
    ),
    Case(
        *("two_signatures", Reason.SIGNATURE_COUNT),
        "Two members signed it: which of them counts?",
        _second_signature,
    ),
    Case(
        *("empty_signature", Reason.SIGNATURE_WRONG),
        "The signature has no bytes.",
        _envelope(lambda e: e["signatures"][0].update(sig="")),
    ),
    Case(
        *("signature_of_zeros", Reason.SIGNATURE_WRONG),
        "The signature is 64 zeros.",
        _envelope(lambda e: e["signatures"][0].update(sig="A" * 86 + "==")),
    ),
    Case(
        *("claims_another_key", Reason.SIGNATURE_WRONG),
        "It says that another member signed it.",
        _claims_other_key,
    ),
    Case(
        *("changed_after_signing", Reason.SIGNATURE_WRONG),
        "The payload is another than the one that was signed.",
        _changed_after_signing,
    ),
    Case(
        *("payload_type", Reason.PAYLOAD_TYPE_UNKNOWN),
        "Properly signed, as plain JSON instead of an in-toto statement.",
        _payload_type,
    ),
    Case(
        *("envelope_with_spaces", Reason.ENVELOPE_MALFORMED),
        "The same envelope in other bytes, and so under another name.",
        _spaces,
    ),
    Case(
        *("envelope_no_base64", Reason.ENVELOPE_MALFORMED),
        "The payload is no base64.",
        _envelope(lambda e: e.update(payload="*")),
    ),
    Case(
        *("names_another_key", Reason.KEY_ID_DIFFERS),
        "The manifest names another member's key than the one that signed it.",
        _names_other_key,
    ),
)
_KEYS = (
    Case(
        *("foreign_key", Reason.KEY_UNKNOWN),
        "A good bundle, signed by somebody whom the hub does not know.",
        _signed_by("stranger"),
        signer="stranger",
    ),
    Case(
        *("pending_key", Reason.KEY_PENDING),
        "A good bundle of a site that is not admitted yet.",
        _signed_by("pending"),
        signer="pending",
    ),
    Case(
        *("retired_key", Reason.KEY_RETIRED),
        "A good bundle, signed by a key that its site has replaced.",
        _signed_by("retired"),
        signer="retired",
    ),
    Case(
        *("revoked_key", Reason.KEY_REVOKED),
        "A good bundle of a site whose membership was ended.",
        _signed_by("revoked"),
        signer="revoked",
    ),
    Case(
        *("expired_key", Reason.KEY_EXPIRED),
        "A good bundle, signed by a key that is older than the hub lets keys become.",
        _signed_by("expired"),
        signer="expired",
    ),
)
_JSON = (
    Case(
        "deep_json",
        Reason.JSON_TOO_DEEP,
        "Brackets in brackets, signed.",
        _payload(b'{"_type":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    ),
    Case(
        *("deep_json_for_envelope", Reason.JSON_TOO_DEEP),
        "Brackets in brackets instead of an envelope.",
        lambda folder, _key: (folder / MANIFEST).write_bytes(b"[" * 100_000),
    ),
    Case(
        *("repeated_key_in_json", Reason.JSON_NOT_STRICT),
        "A key stands twice: readers differ in which one counts.",
        _payload(b'{"_type":1,"_type":2}'),
    ),
    Case("nan_in_json", Reason.JSON_NOT_STRICT, "A number is NaN.", _payload(b'{"_type":NaN}')),
    Case(
        *("huge_number_in_json", Reason.JSON_NOT_STRICT),
        "A number of five thousand digits.",
        _payload(b'{"_type":' + b"9" * 5000 + b"}"),
    ),
    Case(
        *("manifest_no_json", Reason.JSON_NOT_STRICT),
        "The manifest is a web page.",
        lambda folder, _key: (folder / MANIFEST).write_bytes(b"<html></html>"),
    ),
    Case(
        *("manifest_of_two_megabytes", Reason.FILE_TOO_LARGE),
        "Two megabytes of spaces, all there.",
        steps=({"do": "spaces", "name": MANIFEST, "size": 2 << 20},),
    ),
)
