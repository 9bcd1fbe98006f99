"""in-toto Statement v1: which files a predicate is about.

Specification: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixcell_share.bundles._fields import Fields
from pixcell_share.bundles._json import parse_json
from pixcell_share.bundles.faults import Fault
from pixcell_share.files import canonical_json

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True)
class Statement:
    """Subjects by name and SHA-256, sorted by name, and what is said about them."""

    subjects: tuple[tuple[str, str], ...]
    predicate_type: str
    predicate: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The statement as canonical JSON."""
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    {"name": name, "digest": {"sha256": sha256}} for name, sha256 in self.subjects
                ],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def read_statement(
    data: bytes, file: str, predicate_type: str
) -> tuple[tuple[tuple[str, str], ...], Fields]:
    """The subjects and the predicate of a signed payload.

    Raises:
        FormatError: it is not a statement of this predicate type, or its subjects are not
            sorted and unique.
    """
    fields = Fields.root(file, parse_json(data, file))
    fields.close("_type", "subject", "predicateType", "predicate")
    fields.constant("_type", STATEMENT_TYPE, Fault.PREDICATE_UNKNOWN)
    fields.constant("predicateType", predicate_type, Fault.PREDICATE_UNKNOWN)
    subjects = tuple(_subject(entry) for entry in fields.objects("subject"))
    names = [name for name, _ in subjects]
    if not all(map(_FILE_NAME.fullmatch, names)):
        why = "has a name that is no plain file's"
        raise fields.wrong("subject", why, Fault.SUBJECTS_WRONG)
    if names != sorted(set(names)) or not names:
        why = "is not a sorted list of different files"
        raise fields.wrong("subject", why, Fault.SUBJECTS_WRONG)
    return subjects, fields.object("predicate")


def _subject(entry: Fields) -> tuple[str, str]:
    entry.close("name", "digest")
    digest = entry.object("digest")
    digest.close("sha256")
    return entry.text("name"), digest.sha256("sha256")
