"""What a doctor finds, at a site or at a hub: one line each, with its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    status: Status
    """``fail`` stops the program or a part of it; ``warn`` does not."""
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty where all is well."""


def ok(name: str, detail: str) -> Check:
    """All is well."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, remedy: str) -> Check:
    """It would go through, but a person should know."""
    return Check(name, "warn", detail, remedy)


def fail(name: str, detail: str, remedy: str) -> Check:
    """It would stop here, or leave something out."""
    return Check(name, "fail", detail, remedy)


def exit_code(checks: Iterable[Check]) -> int:
    """1 if anything would fail, else 0."""
    return int(any(check.status == "fail" for check in checks))
