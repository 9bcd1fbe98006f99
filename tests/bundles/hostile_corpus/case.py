"""One hostile bundle: its name, its reason, and how to make it from a good one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixcell_share.bundles import SiteKey

Spoil = Callable[[Path, SiteKey], object]
"""Changes a copy of the good bundle, and signs it anew where the attacker can."""


def _nothing(_folder: Path, _key: SiteKey) -> None:
    return


@dataclass(frozen=True)
class Case:
    """What the corpus says of one bundle."""

    name: str
    reason: str
    """The code that it must be refused with."""
    about: str
    """What is wrong, for people."""
    spoil: Spoil = _nothing
    steps: tuple[dict[str, Any], ...] = ()
    """What a version control cannot hold, done when the bundle is laid out: see `laying`."""
    before: tuple[dict[str, str], ...] = ()
    """What the hub did before: ``{"accept": "good"}``, ``{"withdraw": "good"}``."""
    sender: str = ""
    """The site that sends it, where that is not the operator with a folder."""
    says: str = ""
    """Words that the refusal must have."""
    signer: str = "member"
    """The key that signs it."""
