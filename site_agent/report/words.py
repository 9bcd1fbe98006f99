"""What the report says in words: the verdict first, and never more than was measured."""

from __future__ import annotations

from dataclasses import dataclass

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.privacy import ControlResult


def headline(audit: AuditResult | None) -> str:
    """The verdict in a few words."""
    if audit is None:
        return "Not checked, not signed"
    return {
        "PASS": "The first checks passed",
        "REFUSE": "The release was refused",
        "INVALID": "The checks are invalid",
    }[audit.verdict]


def sentence(audit: AuditResult | None, control: ControlResult | None, real_tiles: int) -> str:
    """The verdict with its reason, in a sentence or two."""
    if audit is None:
        return "The privacy checks did not run. Nothing was signed and nothing may leave the site."
    if audit.verdict == "INVALID":
        return _invalid(control)
    tiles = int(_figure(audit, "near_copies_in_pixels", "tiles"))
    if not tiles:
        return "No synthetic tile was left to release. Nothing was signed."
    if audit.verdict == "REFUSE":
        return (
            f"{_copies(audit)} of the {quantity(tiles)} synthetic tiles to be released come as "
            "close to a real tile as a copy would. Nothing was signed."
        )
    return (
        f"None of the {quantity(tiles)} released tiles comes as close as a copy to any of the "
        f"{quantity(real_tiles)} real tiles, in pixels or in the encoder. "
        f"{_noticed(control)}"
    )


def _invalid(control: ControlResult | None) -> str:
    if control is None or not control.caught.total:
        return (
            "No copy could be planted to prove that copies would be noticed. The checks say "
            "nothing about this cohort, and nothing was signed."
        )
    caught = control.caught
    return (
        f"Only {caught.count} of {caught.total} copies that were planted on purpose were noticed. "
        "The checks say nothing about this cohort, and nothing was signed."
    )


def _noticed(control: ControlResult | None) -> str:
    if control is None:
        return ""
    caught = control.caught
    return f"Of {caught.total} copies that were planted on purpose, {caught.count} were noticed."


def _copies(audit: AuditResult) -> str:
    in_pixels = int(_figure(audit, "near_copies_in_pixels", "near_copies"))
    in_encoder = int(_figure(audit, "near_copies_in_encoder", "near_copies"))
    return f"{quantity(in_pixels)} (in pixels) and {quantity(in_encoder)} (in the encoder)"


def _figure(audit: AuditResult, test: str, name: str) -> float:
    figures = next((found.figures for found in audit.tests if found.name == test), {})
    return figures.get(name, 0)


@dataclass(frozen=True)
class CheckWords:
    """A check, said in words."""

    title: str
    question: str
    answer: str


_TITLES = {
    "planted_copies": (
        "Positive control",
        "Would a copy have been noticed? Exact, flipped, rotated and recompressed copies of real "
        "tiles were planted and searched for in pixels.",
    ),
    "near_copies_in_pixels": (
        "Near copies in pixels",
        "Does a released tile repeat the layout of a real one, under flips, rotations by right "
        "angles and small shifts?",
    ),
    "near_copies_in_encoder": (
        "Near copies in the encoder",
        "Does a released tile come closer to a real one than real tiles of the run are to each "
        "other? Some likeness is by design: each tile is made from the embedding of a real one.",
    ),
}


def check_words(test: AuditTest) -> CheckWords:
    """Title, question and answer of a check; a check without words here shows its figures."""
    title, question = _TITLES.get(test.name, (test.name.replace("_", " "), ""))
    if test.name == "planted_copies":
        answer = (
            f"{test.figures['caught']} of {test.figures['planted']} noticed in pixels "
            f"(95 % interval {percent(test.figures['interval_low'])} to "
            f"{percent(test.figures['interval_high'])}); at least "
            f"{percent(test.limit['share'])} is demanded. The encoder alone noticed "
            f"{test.figures['caught_by_encoder']}."
        )
    elif test.name in _TITLES:
        answer = (
            f"{quantity(test.figures['near_copies'])} of {quantity(test.figures['tiles'])} tiles "
            f"score {test.limit['score']:g} or more; none may. The median score is "
            f"{test.figures['median']:.2f}."
        )
    else:
        answer = "; ".join(f"{name.replace('_', ' ')} {v:g}" for name, v in test.figures.items())
    return CheckWords(title, question, answer)


def quantity(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def percent(share: float) -> str:
    """A share as a percentage, to a tenth where that matters."""
    return f"{100 * share:.1f}\u00a0%".replace(".0\u00a0%", "\u00a0%")
