"""Requests that sites sign, and the hub's statement about itself."""

from __future__ import annotations

import ssl
import time
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)
from requests import Request

import pixcell_share.wire as room
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import HubTrustError, UploadError
from pixcell_share.wire import (
    CREATED_WINDOW_S,
    HubStatement,
    Refusal,
    SignedParts,
    UploadOffer,
    content_digest,
    read_signature,
    sign_request,
)
from tests.hub_server.web_calls import SiteCaller, WebHub

HUB = "ab" * 32
PARTS = SignedParts("PATCH", "/api/v1/uploads/x/card.md", "", content_digest(b"tile"), "12")
COVERED = ("@method", "@path", "@query", "content-digest", "upload-offset")
STATEMENT = HubStatement("Hub", "1", "", "cd" * 32, "n" * 22)


class Keys(HTTPSignatureKeyResolver):
    """The peer's way to a key."""

    def __init__(self, key: SiteKey) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return serialization.load_pem_public_key(self._key.public_pem)

    def resolve_private_key(self, key_id: str) -> Any:
        return self._key._key


def as_request(parts: SignedParts, **headers: str) -> Any:
    fields = {"Content-Digest": parts.content_digest, "Upload-Offset": parts.upload_offset or ""}
    url = f"https://hub.test{parts.path}"
    return Request(parts.method, url, headers={**fields, **headers}).prepare()


def test_exports() -> None:
    assert sorted(room.__all__) == [
        "CREATED_WINDOW_S", "FileOffer", "HubStatement", "Refusal", "RequestSignature",
        "SignedParts", "UploadOffer", "certificate_sha256", "content_digest", "offer_of",
        "parse_content_digest", "read_signature", "sign_request",
    ]  # fmt: skip
    assert all(hasattr(room, name) for name in room.__all__)


def test_another_implementation_of_rfc_9421_verifies_what_a_site_signs(key: SiteKey) -> None:
    message = as_request(PARTS, **sign_request(key, HUB, PARTS, created=int(time.time())))
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Keys(key))
    (found,) = verifier.verify(message)
    assert tuple(name.strip('"') for name in found.covered_components)[:-1] == COVERED
    assert found.parameters["keyid"] == key.key_id


def test_the_hub_verifies_what_another_implementation_signs(key: SiteKey) -> None:
    message = as_request(PARTS)
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=Keys(key))
    signer.sign(
        message, key_id=key.key_id, label="site", tag=f"pixcell-share:{HUB}",
        nonce="n" * 22, covered_component_ids=COVERED, use_existing_digest=True,
    )  # fmt: skip
    signature = read_signature(message.headers)
    assert signature is not None and signature.holds(key.public, PARTS)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "POST"}, {"path": "/api/v1/uploads/y/card.md"}, {"query": "a=1"},
        {"content_digest": content_digest(b"other")}, {"upload_offset": "13"},
        {"upload_offset": None},
    ],
)  # fmt: skip
def test_every_part_is_signed(key: SiteKey, change: dict[str, str | None]) -> None:
    signature = read_signature(sign_request(key, HUB, PARTS, created=1))
    assert signature is not None and signature.holds(key.public, PARTS)
    assert not signature.holds(key.public, replace(PARTS, **change))
    for other in ({"hub_key_id": "cd" * 32}, {"created": 2}, {"nonce": "m" * 22}):
        assert not replace(signature, **other).holds(key.public, PARTS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"@query" ', ""), (";tag=", ";expires=1;tag="), ("ed25519", "hmac-sha256"),
        ("site=", "Site="), ("(", "( "), ("created=1", "created=-1"), ("created=1", "created=1.0"),
    ],
)  # fmt: skip
def test_one_shape_of_signature_is_accepted(key: SiteKey, old: str, new: str) -> None:
    fields = sign_request(key, HUB, PARTS, created=1)
    changed = {**fields, "Signature-Input": fields["Signature-Input"].replace(old, new, 1)}
    assert changed != fields
    signature = read_signature(changed)
    assert signature is None or not signature.holds(key.public, PARTS)


def test_the_statement_names_key_and_certificate_and_is_fresh(key: SiteKey) -> None:
    statement = replace(STATEMENT, public_key=key.public_pem.decode())
    document = statement.sign(key)
    assert HubStatement.check(document, nonce="n" * 22) == (statement, key.public)
    for change in ({"certificate_sha256": "ef" * 32}, {"nonce": "m" * 22}, {"name": "Other"}):
        with pytest.raises(HubTrustError):
            HubStatement.check({**document, **change}, nonce="n" * 22)
    with pytest.raises(HubTrustError):
        HubStatement.check(document, nonce="m" * 22)  # an answer that was recorded


@pytest.mark.parametrize("document", [None, [], {}, {"signature": "!"}, {"signature": 5}])
def test_what_is_no_statement_is_no_hub(document: object) -> None:
    with pytest.raises(HubTrustError, match="does not answer as a hub"):
        HubStatement.check(document, nonce="n" * 22)


@pytest.mark.parametrize("document", [None, {}, {"files": 5}, {"files": [{"name": "card.md"}]}])
def test_what_is_no_offer_is_refused(document: object) -> None:
    with pytest.raises(UploadError):
        UploadOffer.from_document(document)


def test_the_hub_answers_with_its_statement(web_hub: WebHub) -> None:
    answer = web_hub.browser().get("/api/v1/hub", params={"nonce": "n" * 22})
    statement, key = HubStatement.check(answer.json(), nonce="n" * 22)
    shown = ssl.PEM_cert_to_DER_cert(web_hub.home.certificate.read_text())
    assert key.key_id == web_hub.home.load_key().key_id
    assert statement.certificate_sha256 == room.certificate_sha256(ssl.DER_cert_to_PEM_cert(shown))
    assert web_hub.browser().get("/api/v1/hub", params={"nonce": "short"}).status_code == 422


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_request_of_another_time_is_refused_and_says_both_times(member: SiteCaller) -> None:
    path = f"/join/{member.key.key_id}"
    for seconds in (-CREATED_WINDOW_S - 60, CREATED_WINDOW_S + 60):
        answer = member.call("GET", path, created=time.time() + seconds)
        assert code_of(answer) == (401, Refusal.CLOCK)
        assert answer.json()["error"]["cause"].count("UTC") == 2
    almost = time.time() - CREATED_WINDOW_S + 60
    assert member.call("GET", path, created=almost).status_code == 200


def test_a_request_counts_once(member: SiteCaller) -> None:
    path = f"/join/{member.key.key_id}"
    fields = member.signature("GET", path, b"", {})
    assert member.http.get(f"/api/v1{path}", headers=fields).status_code == 200
    again = member.http.get(f"/api/v1{path}", headers=fields)
    assert code_of(again) == (401, Refusal.REPLAY)


def test_a_body_that_was_changed_is_refused(member: SiteCaller) -> None:
    document = {"bundle_digest": "0" * 64, "files": []}
    answer = member.call("POST", "/uploads", document, signed_body=b"{}")
    assert code_of(answer) == (401, Refusal.SIGNATURE)


def test_a_request_for_another_hub_is_none_for_this_one(member: SiteCaller) -> None:
    other = replace(member, hub_key_id=HUB)
    assert code_of(other.call("GET", "/cohorts/" + "0" * 64)) == (401, Refusal.SIGNATURE)


def test_unsigned_requests_and_unknown_keys_are_refused(
    member: SiteCaller, web_hub: WebHub, other_key: SiteKey
) -> None:
    assert code_of(member.http.post("/api/v1/uploads", json={})) == (401, Refusal.SIGNATURE)
    stranger = web_hub.site(other_key)
    assert code_of(stranger.call("GET", "/cohorts/" + "0" * 64)) == (401, Refusal.UNKNOWN_KEY)


def test_a_repeated_field_is_no_signature(member: SiteCaller) -> None:
    path = f"/join/{member.key.key_id}"
    fields = list(member.signature("GET", path, b"", {}).items())
    answer = member.http.get(f"/api/v1{path}", headers=[*fields, fields[0]])
    assert code_of(answer) == (401, Refusal.SIGNATURE)
