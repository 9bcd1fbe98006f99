"""How the hub's pages write times, sizes, states and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from pixcell_share.figures import count, number, percent, quantity
from pixcell_share.wire.fingerprints import readable

_TONES = {
    **dict.fromkeys(("accepted", "active", "done", "PASS", "passed", "open"), "good"),
    **dict.fromkeys(("rejected", "revoked", "failed", "REFUSE", "INVALID"), "bad"),
    **dict.fromkeys(("pending", "uploaded", "quarantined", "verified", "running"), "busy"),
    **dict.fromkeys(("queued", "invited", "retired", "withdrawn", "cancelled", "closed"), "quiet"),
}
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_DIGEST, _BRIEF = 64, 90
SHORT = 12
"""Digits of an id that are shown where there is little room."""


def when(moment: datetime | None) -> Markup:
    """A time for people and for programs; a dash where there is none."""
    if moment is None:
        return Markup("–")
    utc = moment.astimezone(UTC)
    shown = f"{utc.day} {utc:%b %Y, %H:%M}"
    return Markup('<time datetime="{}">{}\u00a0UTC</time>').format(
        utc.isoformat(timespec="seconds"), shown
    )


def lasting(seconds: float) -> str:
    """A span of time: ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(value: int) -> str:
    """Bytes: ``1.2 GiB``."""
    for unit, name in _SIZES:
        if value >= unit:
            return f"{value / unit:.1f}".removesuffix(".0") + f"\u00a0{name}"
    return f"{value}\u00a0bytes"


def pill(state: str) -> Markup:
    """A state as a small label; its colour only repeats what the word says."""
    tone = _TONES.get(str(state), "quiet")
    return Markup('<span class="pill {}">{}</span>').format(tone, str(state))


def short(text: str) -> Markup:
    """The first digits of an id; the rest is in the title."""
    return Markup('<code title="{}">{}</code>').format(text, text[:SHORT])


def sentence(text: str) -> str:
    """A cause or a remedy, which begin small and end without a point, as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text[-1:] in '.!?:' else '.'}"


def brief(text: str) -> str:
    """Digests by their first digits, other texts by their first words."""
    if len(text) == _DIGEST and text.isalnum():
        return f"{text[:SHORT]}…"
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"


def plain_name(code: str) -> str:
    """A name of a program's as words: ``near_copies``, ``near copies``."""
    return code.replace("_", " ").replace(".", " ")


def figure(value: Any) -> str:
    """A value of a card or of a job's progress, as text."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return quantity(value)
        case float():
            return number(value)
        case None:
            return "–"
        case list() | tuple():
            return ", ".join(figure(part) for part in value) or "–"
        case dict():
            return ", ".join(f"{plain_name(str(k))} {figure(v)}" for k, v in value.items()) or "–"
    return str(value)


def tenths(share: float) -> str:
    """A share in percent with one digit behind the point, for columns that are compared."""
    return f"{100 * share:.1f}"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "when": when,
    "lasting": lasting,
    "size": size,
    "pill": pill,
    "short": short,
    "sentence": sentence,
    "brief": brief,
    "plain_name": plain_name,
    "figure": figure,
    "tenths": tenths,
    "quantity": quantity,
    "number": number,
    "percent": percent,
    "count": count,
    "readable": readable,
    "in_url": lambda text: quote(text, safe=""),
}
