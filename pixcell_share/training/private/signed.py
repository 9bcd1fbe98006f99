"""A site's signature over an adapter and what it promises: an in-toto statement in DSSE.

The subject is the adapter, by `adapter_digest`; the predicate is the private record, and which
round of which training it is. The predicate type is a URN of our own, as for bundles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pixcell_share.bundles import Fault, PublicKey, SiteKey
from pixcell_share.bundles._envelope import Envelope
from pixcell_share.bundles._statement import Statement, read_statement
from pixcell_share.errors import DigestError
from pixcell_share.training.private.record import PrivateRecord
from pixcell_share.training.private.update import Adapter, adapter_digest

PREDICATE = "urn:pixcell-share:private-adapter:v1"
_NAME = "record.dsse.json"
_SUBJECT = "adapter"
_TRAINING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_RESEND = "ask the site to send the adapter again; if it comes out the same, do not use it"


@dataclass(frozen=True)
class SignedAdapter:
    """What a site says about an adapter."""

    record: PrivateRecord
    """What it promises."""
    training: str
    """Name of the training."""
    round: int
    """From 1 on."""
    rounds: int
    """Of the training."""
    start: str
    """Digest of the adapter that the round began with."""
    key_id: str
    """Of the site's key that signed."""


def is_training_name(name: str) -> bool:
    """Whether a training can have that name: letters, digits, ``.``, ``_`` and ``-``."""
    return bool(_TRAINING.fullmatch(name))


def sign_adapter(
    adapter: Adapter,
    record: PrivateRecord,
    key: SiteKey,
    *,
    start: str,
    training: str = "local",
    round: int = 1,
    rounds: int = 1,
) -> bytes:
    """The envelope. The same arguments give the same bytes.

    Args:
        adapter: what leaves the site.
        record: what it promises.
        key: the site's.
        start: digest of the adapter that the round began with.
        training: name of the training.
        round: from 1 on.
        rounds: of the training.
    """
    predicate = {
        "record": record.to_json(),
        "training": training,
        "round": round,
        "rounds": rounds,
        "start": start,
    }
    statement = Statement(((_SUBJECT, adapter_digest(adapter)),), PREDICATE, predicate)
    return Envelope.sign(statement.to_bytes(), key).to_bytes()


def check_envelope(
    envelope: bytes, trusted: Iterable[PublicKey], adapter: Adapter
) -> SignedAdapter:
    """What a site signed about an adapter, once everything holds.

    Args:
        envelope: as it came.
        trusted: keys of the sites.
        adapter: as it came.

    Raises:
        SignatureError: signed by no trusted key, or changed since.
        FormatError: it is no such statement.
        DigestError: it is about another adapter.
    """
    signed = Envelope.from_bytes(envelope, _NAME)
    key = signed.check(trusted, _NAME)
    subjects, fields = read_statement(signed.payload, _NAME, PREDICATE)
    fields.close("record", "training", "round", "rounds", "start")
    if subjects != ((_SUBJECT, adapter_digest(adapter)),):
        raise DigestError(
            f"{_NAME} is about another adapter than the one that came with it",
            _RESEND,
            Fault.DIGEST_WRONG,
        )
    try:
        record = PrivateRecord.from_json(dict(fields.object("record").values))
    except ValueError as error:
        raise fields.wrong("record", str(error)) from error
    training = fields.text("training")
    if not is_training_name(training):
        raise fields.wrong("training", "is no name of a training")
    rounds = fields.integer("rounds", 1)
    return SignedAdapter(
        record, training, fields.integer("round", 1, rounds), rounds, fields.sha256("start"),
        key.key_id,
    )  # fmt: skip
