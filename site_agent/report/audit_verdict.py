"""The verdict in sentences: why, by how much, and what the audit could not have noticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.figures.intervals import spread
from pixcell_share.figures.numbers import count, number, percent, quantity
from site_agent.report.audit_questions import GROUPS, NO_ONE_ATTACKED

Numbers = Mapping[str, float | int]
_NOT_SIGNED = "Nothing was signed, and nothing may leave the site."


def sentence(audit: AuditResult, *, signed: bool) -> str:
    """The verdict with its reason, in a sentence or two.

    Args:
        audit: the verdict and its tests.
        signed: whether a bundle was signed.
    """
    if audit.verdict == "INVALID":
        return f"{_why_invalid(audit)} So the audit says nothing about this cohort. {_NOT_SIGNED}"
    if audit.verdict == "REFUSE":
        first, *more = reasons(audit)
        others = f" {count(len(more), 'more limit')} did not hold." if more else ""
        return f"{first}{others} {_NOT_SIGNED}"
    held = f"Every limit of the site held, in {count(len(audit.tests), 'test')}."
    end = "" if signed else " No bundle was signed with this audit."
    return " ".join(part for part in (held, _noticed(audit), _linked(audit)) if part) + end


def _why_invalid(audit: AuditResult) -> str:
    known = {test.name: test for test in audit.tests}
    planted, second = known.get("planted_copies"), known.get("second_encoder")
    if planted is None:
        return "No copy was planted to show that copies would be noticed."
    if not planted.passed:
        return " ".join(breaches(planted))
    if second is None or "patient_linkage" not in known:
        return (
            "There was no control group to compare with: no patient was set aside, or there was "
            "nothing to attack."
        )
    if not second.passed:
        return "The second encoder, which the attacks look through, cannot tell real tiles apart."
    return "A control of the audit itself did not hold."


def _noticed(audit: AuditResult) -> str:
    figures = _figures(audit, "planted_copies")
    if not {"caught", "planted"} <= figures.keys():
        return ""
    planted = count(figures["planted"], "copy", "copies")
    return f"Of {planted} planted on purpose, {quantity(figures['caught'])} were noticed."


def _linked(audit: AuditResult) -> str:
    f = _figures(audit, "patient_linkage")
    if not {"residual", "residual_low", "residual_high"} <= f.keys():
        return ""
    found = spread(f["residual"], f["residual_low"], f["residual_high"])
    if not f.get("patients", 1):
        return NO_ONE_ATTACKED
    limit = next(t.limit.get("residual", 1.0) for t in audit.tests if t.name == "patient_linkage")
    more = f", and more than the limit of {percent(limit)} cannot be ruled out"
    return (
        "Somebody who holds other tiles of a patient links, beyond what the control group shows, "
        f"{found} of the patients to the cohort{more if f['residual_high'] > limit else ''}."
    )


def power(audit: AuditResult) -> str:
    """What the attack on patients would have noticed, in a sentence; empty where not known."""
    if audit.verdict == "INVALID":
        return "Nothing that can be relied on: a control of the audit itself did not hold."
    f = _figures(audit, "patient_linkage")
    if not {"patients", "holdout_patients", "detectable"} <= f.keys():
        return "The attack on patients was not made: the audit says nothing about patients."
    if not f["patients"]:
        return NO_ONE_ATTACKED
    size = (
        f"With {count(f['patients'], 'patient')} in the cohort and "
        f"{quantity(f['holdout_patients'])} set aside"
    )
    if f["detectable"] >= 1:
        return f"{size}, not even the largest residual could be relied on to show."
    return (
        f"{size}, the audit would have noticed a residual of {percent(f['detectable'])} or more, "
        "four times in five. A smaller one may have gone unnoticed."
    )


def reasons(audit: AuditResult) -> tuple[str, ...]:
    """Every limit that did not hold, with its figure and by how much, a sentence each.

    In the order of the page: what concerns patients before what concerns tiles.
    """
    order = [name for _, names in GROUPS for name in names]
    failed = sorted(
        (test for test in audit.tests if not test.passed),
        key=lambda test: order.index(test.name) if test.name in order else len(order),
    )
    return tuple(why for test in failed for why in breaches(test))


def breaches(test: AuditTest) -> tuple[str, ...]:
    """Why a failed test failed: each limit that did not hold, with its figure, a sentence each."""
    f = test.figures
    if test.name == "planted_copies" and not f.get("planted", 1):
        return ("No copy could be planted to show that copies would be noticed.",)
    if test.name.startswith("near_copies") and not f.get("tiles", 1):
        return ("No synthetic tile was left to release.",)
    return tuple(_breaches(test)) or (f"The test {test.name.replace('_', ' ')} did not hold.",)


@dataclass(frozen=True)
class _Rule:
    """How one limit of a test is held."""

    limit: str
    figure: Callable[[Numbers], float]
    words: str
    """What the figure means, with ``{}`` in its place."""
    at_least: bool = False
    text: Callable[[float], str] = percent


def _breaches(test: AuditTest) -> list[str]:
    found = []
    for rule in _RULES.get(test.name, ()):
        try:
            value, limit = rule.figure(test.figures), test.limit[rule.limit]
        except (KeyError, ZeroDivisionError):
            continue
        if value < limit if rule.at_least else value > limit:
            found.append(_breach(rule, value, limit))
    return found[:1] if test.name == "planted_copies" else found  # negatives are held to chance


def _breach(rule: _Rule, value: float, limit: float) -> str:
    what = rule.words.format(rule.text(value))
    verb = "are" if rule.text is quantity and limit != 1 else "is"
    held = f"at most {rule.text(limit)} {verb} allowed"
    if rule.at_least:
        held = f"at least {rule.text(limit)} {verb} demanded"
    apart = rule.text(abs(value - limit))
    if rule.text is percent:
        apart = f"{apart.removesuffix(chr(0xA0) + '%')} percentage points"
    return f"{what}; {held} ({apart} {'short' if rule.at_least else 'over'})."


def _of(name: str) -> Callable[[Numbers], float]:
    return lambda f: f[name]


def _share_of(part: str, whole: str) -> Callable[[Numbers], float]:
    return lambda f: f[part] / f[whole]


_RULES: Mapping[str, Sequence[_Rule]] = {
    "planted_copies": (
        _Rule(
            "share",
            _share_of("caught", "planted"),
            "Only {} of the copies that were planted on purpose were noticed",
            at_least=True,
        ),
        _Rule(
            "blend_share",
            _share_of("blends_caught", "blends"),
            "Only {} of the planted tiles that are half a real one were noticed",
            at_least=True,
        ),
        _Rule(
            "negative_share",
            _share_of("negatives_flagged", "negatives"),
            "{} of the tiles that are no copies were taken for copies",
        ),
    ),
    "near_copies_in_pixels": (
        _Rule(
            "near_copies",
            _of("near_copies"),
            "Near copies of real tiles in pixels: {}",
            text=quantity,
        ),
    ),
    "near_copies_in_encoder": (
        _Rule(
            "near_copies",
            _of("near_copies"),
            "Near copies of real tiles in the encoder: {}",
            text=quantity,
        ),
    ),
    "second_encoder": (
        _Rule(
            "distinct",
            _of("distinct"),
            "The second encoder tells only {} of the real tiles from the tile nearest to them",
            at_least=True,
        ),
    ),
    "retrieval": (
        _Rule(
            "excess",
            _of("excess"),
            "{} of the synthetic tiles lead back to the real tile behind them, beyond what the "
            "control shows",
        ),
    ),
    "patient_linkage": (
        _Rule(
            "residual",
            _of("residual"),
            "{} of the patients are linked to the cohort, beyond what the control group shows",
        ),
        _Rule(
            "detectable",
            _of("detectable"),
            "With so few patients a residual up to {} could have gone unnoticed",
        ),
    ),
    "patient_linkage_conditioning": (
        _Rule(
            "residual",
            _of("residual"),
            "{} of the patients are linked to the cohort through the encoder that conditioned, "
            "beyond what the control group shows",
        ),
        _Rule(
            "detectable",
            _of("detectable"),
            "Through the encoder that conditioned a residual up to {} could have gone unnoticed",
        ),
    ),
    "data_copying": (_Rule("c_t", _of("c_t"), "C_T is {}", at_least=True, text=number),),
    "closest_record": (
        _Rule(
            "nearer",
            _of("nearer"),
            "{} of the synthetic tiles are nearer to the cohort than to patients set aside",
        ),
    ),
    "membership": (
        _Rule("tpr_1", _of("loss_tpr_1"), "{} of the training tiles are found by their loss"),
        _Rule("tpr_1", _of("clid_tpr_1"), "{} of the training tiles are found by CLiD"),
    ),
    "attributes": (
        _Rule(
            "findings",
            _of("findings"),
            "Things beside the pictures that may identify someone: {}",
            text=quantity,
        ),
    ),
    "cohort": (
        _Rule("patients", _of("patients"), "Patients in the cohort: {}", True, quantity),
        _Rule(
            "class_patients",
            _of("smallest_class"),
            "Patients in the smallest class: {}",
            at_least=True,
            text=quantity,
        ),
    ),
    "budget": (
        _Rule(
            "epsilon", _of("epsilon"), "A patient would have spent an epsilon of {}", text=number
        ),
        _Rule(
            "releases",
            _of("releases"),
            "Releases that one patient would have taken part in: {}",
            text=quantity,
        ),
    ),
}
"""The limits of each test, as `pixcell_share.privacy.gate` holds them."""


def _figures(audit: AuditResult, test: str) -> Numbers:
    return next((found.figures for found in audit.tests if found.name == test), {})
