"""How pages write numbers."""

from __future__ import annotations


def quantity(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def percent(share: float) -> str:
    """A share as a percentage, to a tenth where that matters."""
    return f"{_percentage(share)}\u00a0%"


def percents(low: float, high: float) -> str:
    """An interval of shares: ``2 to 11 %``."""
    return f"{_percentage(low)} to {_percentage(high)}\u00a0%"


def _percentage(share: float) -> str:
    return signed(f"{100 * share:.1f}".removesuffix(".0"))


def number(value: float) -> str:
    """A number that is no share, with three significant digits."""
    return signed(f"{value:.3g}")


def signed(text: str) -> str:
    """A number's text with a minus sign in place of a hyphen, and no negative zero."""
    return "0" if text in ("-0", "0") else text.replace("-", "\u2212", 1)


def count(value: float, noun: str, plural: str = "") -> str:
    """A count with its noun: ``1 patient``, ``3 patients``."""
    return f"{quantity(value)} {noun if value == 1 else plural or noun + 's'}"
