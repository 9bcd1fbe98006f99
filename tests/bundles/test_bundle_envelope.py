from __future__ import annotations

import json

import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.bundles._envelope import (
    PAYLOAD_TYPE,
    Envelope,
    pre_authentication_encoding,
)
from pixcell_share.errors import FormatError, SignatureError

BODY = b'{"_type":"https://in-toto.io/Statement/v1"}'


def test_pae_is_the_example_of_the_specification() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_securesystemslib_accepts_our_signature(key: SiteKey) -> None:
    dsse, sslib_key = _peer(key)
    theirs = dsse.Envelope.from_dict(json.loads(Envelope.sign(BODY, key).to_bytes()))
    assert theirs.payload == BODY
    assert set(theirs.verify([sslib_key], threshold=1)) == {key.key_id}


def test_we_accept_the_signature_of_securesystemslib(key: SiteKey) -> None:
    dsse, _ = _peer(key)
    signer = pytest.importorskip("securesystemslib.signer").CryptoSigner
    theirs = dsse.Envelope(BODY, PAYLOAD_TYPE, {})
    theirs.sign(signer(key._key, _peer(key)[1]))
    data = json.dumps(theirs.to_dict(), sort_keys=True, separators=(",", ":")).encode()
    envelope = Envelope.from_bytes(data, "theirs")
    assert envelope.check([key.public], "theirs").key_id == key.key_id


def test_securesystemslib_refuses_what_we_refuse(key: SiteKey) -> None:
    dsse, sslib_key = _peer(key)
    exceptions = pytest.importorskip("securesystemslib.exceptions")
    changed = json.loads(Envelope.sign(BODY, key).to_bytes()) | {"payloadType": "text/plain"}
    with pytest.raises(exceptions.VerificationError):
        dsse.Envelope.from_dict(changed).verify([sslib_key], threshold=1)


def test_an_envelope_comes_back_as_it_was(key: SiteKey) -> None:
    envelope = Envelope.sign(BODY, key)
    assert Envelope.from_bytes(envelope.to_bytes(), "x") == envelope


@pytest.mark.parametrize("spoil", ["spaces", "order", "url-safe base64", "extra member"])
def test_only_the_canonical_text_is_an_envelope(key: SiteKey, spoil: str) -> None:
    """Else bits of the file could change without anyone noticing."""
    envelope = Envelope.sign(b"\xff\xfe\xfd" * 9, key)
    value = json.loads(envelope.to_bytes())
    spoiled = {
        "spaces": json.dumps(value, sort_keys=True),
        "order": json.dumps(dict(reversed(value.items())), separators=(",", ":")),
        "url-safe base64": envelope.to_bytes().decode().replace("/", "_").replace("+", "-"),
        "extra member": json.dumps(value | {"z": 1}, sort_keys=True, separators=(",", ":")),
    }[spoil]
    with pytest.raises(FormatError):
        Envelope.from_bytes(spoiled.encode(), "x")


def test_a_key_id_alone_is_worth_nothing(key: SiteKey, tmp_path_factory) -> None:
    other = SiteKey.create(tmp_path_factory.mktemp("other") / "k")
    envelope = Envelope.sign(BODY, other)
    disguised = Envelope(BODY, PAYLOAD_TYPE, key.key_id, envelope.signature)
    with pytest.raises(SignatureError, match="does not hold"):
        disguised.check([key.public], "x")
    with pytest.raises(SignatureError, match="not trusted"):
        envelope.check([key.public], "x")
    with pytest.raises(SignatureError, match="not trusted"):
        envelope.check([], "x")
    assert envelope.check([key.public, other.public], "x").key_id == other.key_id


def _peer(key: SiteKey):
    dsse = pytest.importorskip("securesystemslib.dsse", reason="needs the extra `peers`")
    signer = pytest.importorskip("securesystemslib.signer")
    return dsse, signer.SSlibKey.from_crypto(key._key.public_key(), keyid=key.key_id)
