"""The outcome of the privacy checks, as it travels in a bundle."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pixcell_share.bundles.faults import Fault, UnfitError

Verdict = Literal["PASS", "REFUSE", "INVALID"]
VERDICTS: tuple[Verdict, ...] = ("PASS", "REFUSE", "INVALID")
MAX_TESTS = 200
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class AuditTest:
    """One check, what it measured, and the limit that it was held against."""

    name: str
    """Lower case with underscores, such as ``near_copies``."""
    passed: bool
    figures: Mapping[str, float | int] = field(default_factory=dict)
    """What was measured, by name: public, so never a figure about one patient."""
    limit: Mapping[str, float | int] = field(default_factory=dict)
    """The site's limits and settings of this check, by name."""

    def __post_init__(self) -> None:
        for name in (self.name, *self.figures, *self.limit):
            if not _NAME.fullmatch(name):
                raise _wrong(f"the name {ascii(name)[:64]} must match {_NAME.pattern}")
        for name, value in (*self.figures.items(), *self.limit.items()):
            if type(value) not in (int, float) or not math.isfinite(value):
                raise _wrong(f"{self.name}.{name} must be a finite number")


@dataclass(frozen=True)
class AuditResult:
    """The verdict on a cohort and the tests behind it.

    ``PASS``: every test passed. ``REFUSE``: at least one failed. ``INVALID``: the audit could
    not have caught a leak (its planted copies were missed), so it says nothing.
    """

    verdict: Verdict
    tests: tuple[AuditTest, ...]

    def __post_init__(self) -> None:
        names = [test.name for test in self.tests]
        if self.verdict not in VERDICTS:
            raise _wrong(f"verdict must be one of {', '.join(VERDICTS)}")
        if len(set(names)) != len(names) or not 1 <= len(names) <= MAX_TESTS:
            raise _wrong(f"an audit has 1 to {MAX_TESTS} tests, each with its own name")
        if self.verdict == "PASS" and self.failed:
            raise _contradiction(f"the verdict is PASS although {self.failed[0]} failed")
        if self.verdict == "REFUSE" and not self.failed:
            raise _contradiction("the verdict is REFUSE although no test failed")

    @property
    def passed(self) -> tuple[str, ...]:
        """Names of the tests that passed, in order."""
        return tuple(test.name for test in self.tests if test.passed)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the tests that failed, in order."""
        return tuple(test.name for test in self.tests if not test.passed)


def _wrong(why: str, fault: Fault = Fault.FIELD_WRONG) -> UnfitError:
    return UnfitError(
        f"audit: {why}", "this is a fault of the check that made it; report it", fault
    )


def _contradiction(why: str) -> UnfitError:
    return _wrong(why, Fault.AUDIT_CONTRADICTS_ITSELF)
