"""What an audit must have tested before it counts, and what a reader may ask of its figures.

A site's limits decide whether it signs. A hub may ask for more: ``patient_linkage.residual_high
<= 0.1`` compares a figure, ``limits.patient_linkage.residual <= 0.05`` the site's own limit.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.bundles.faults import Fault
from pixcell_share.errors import FormatError, ReleaseRefusedError, SettingsError

REQUIRED_TESTS = (
    "planted_copies",
    "near_copies_in_pixels",
    "near_copies_in_encoder",
    "second_encoder",
    "retrieval",
    "patient_linkage",
    "patient_linkage_conditioning",
    "data_copying",
    "authenticity",
    "closest_record",
    "attributes",
    "cohort",
    "budget",
)
"""Tests that every audit has. ``retrieval`` may be absent where conditions are differentially
private: no tile descends from one source then, so there is none to retrieve."""

OPTIONAL_TESTS = ("membership",)
"""Tests that only some audits have: membership, where weights were trained on the site's tiles."""

DEFAULT_REQUIRED: tuple[str, ...] = REQUIRED_TESTS
"""What `verify_bundle` and `write_bundle` ask for unless they are told otherwise."""

_FORM = re.compile(
    r"(?P<limits>limits\.)?(?P<test>[a-z][a-z0-9_]*)\.(?P<figure>[a-z][a-z0-9_]*)"
    r"(?P<comparison><=|>=|<|>)(?P<bound>[-+.0-9eE]+)"
)
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Requirement:
    """One figure of an audit, or one limit of the site, and the bound that it must keep."""

    test: str
    """Name of the test, such as ``patient_linkage``."""
    figure: str
    """Name of its figure or limit, such as ``residual_high``."""
    comparison: str
    """``<=``, ``>=``, ``<`` or ``>``."""
    bound: float
    """What the figure is compared with."""
    of_limits: bool = False
    """Whether the site's limit is compared, not what was measured."""

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read ``test.figure<=number`` or ``limits.test.figure<=number``; spaces do not matter.

        Raises:
            SettingsError: it has another form, names no test, or its bound is not a finite number.
        """
        found = _FORM.fullmatch("".join(text.split()))
        if found is None:
            raise _wrong(text, "is not of the form test.figure<=number")
        if found["test"] not in (*REQUIRED_TESTS, *OPTIONAL_TESTS):
            raise _wrong(text, f"names no test: there is no {found['test']}")
        try:
            bound = float(found["bound"])
        except ValueError as error:
            raise _wrong(text, f"{found['bound']} is not a number") from error
        if not math.isfinite(bound):
            raise _wrong(text, "its number is too large")
        limits = found["limits"] is not None
        return cls(found["test"], found["figure"], found["comparison"], bound, limits)

    def __str__(self) -> str:
        """The requirement as `parse` reads it."""
        return f"{self._name}{self.comparison}{self.bound:g}"

    @property
    def _name(self) -> str:
        return f"{'limits.' if self.of_limits else ''}{self.test}.{self.figure}"

    def unmet(self, audit: AuditResult) -> str | None:
        """Why ``audit`` does not meet this, in one clause; None where it does."""
        test = next((test for test in audit.tests if test.name == self.test), None)
        if test is None:
            return f"{self} is required, and the audit has no test {self.test}"
        values = test.limit if self.of_limits else test.figures
        if self.figure not in values:
            has = ", ".join(sorted(values)) or "none"
            return f"{self} is required, and the audit does not state {self._name}: it has {has}"
        value = values[self.figure]
        if _COMPARISONS[self.comparison](value, self.bound):
            return None
        return f"{self._name} is {value:g}, and {self.comparison}{self.bound:g} is required"


def missing_tests(audit: AuditResult, required: Iterable[str]) -> tuple[str, ...]:
    """The ``required`` tests that ``audit`` lacks, in order; see `REQUIRED_TESTS` for retrieval."""
    present = {test.name for test in audit.tests}
    excused = {"retrieval"} if _is_private(audit.tests) else set()
    return tuple(name for name in required if name not in present | excused)


def check_complete(audit: AuditResult, required: Sequence[str] | None) -> None:
    """Refuse to sign an audit that lacks a test.

    Args:
        audit: the outcome that is to be signed.
        required: the tests that it must have; None for the usual ones.

    Raises:
        ReleaseRefusedError: naming the tests.
    """
    if missing := missing_tests(audit, DEFAULT_REQUIRED if required is None else required):
        raise ReleaseRefusedError(
            f"the privacy checks are not complete: {', '.join(missing)} did not run",
            "nothing was signed; run the whole audit",
        )


def check_read(
    audit: AuditResult, name: str, required: Sequence[str], requirements: Iterable[Requirement]
) -> None:
    """Refuse a stranger's audit that lacks a test or does not meet a requirement.

    Args:
        audit: as it was read; its signature held.
        name: its file, for errors.
        required: the tests that it must have.
        requirements: what else is asked of it.

    Raises:
        FormatError: naming the tests, or the figure and its bound.
    """
    if missing := missing_tests(audit, required):
        raise FormatError(
            f"{name}: {', '.join(missing)} is missing: "
            "made by an older version, or the audit was cut",
            "ask the site to make the bundle again with this version",
            Fault.AUDIT_INCOMPLETE,
        )
    for requirement in requirements:
        if why := requirement.unmet(audit):
            raise FormatError(
                f"{name}: {why}",
                "ask the site for a bundle that meets it, or change your policy",
                Fault.REQUIREMENT_NOT_MET,
            )


def _is_private(tests: Iterable[AuditTest]) -> bool:
    return any(t.name == "budget" and t.figures.get("private") == 1 for t in tests)


def _wrong(text: str, why: str) -> SettingsError:
    known = ", ".join((*REQUIRED_TESTS, *OPTIONAL_TESTS))
    return SettingsError(
        f"the requirement {ascii(text)[:100]} {why}",
        f'write it as "patient_linkage.residual_high<=0.1"; tests: {known}',
    )
