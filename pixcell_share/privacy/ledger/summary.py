"""A ledger for people and for programs: totals, never a pseudonym."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pixcell_share.privacy.ledger.budget import Budget, Total
from pixcell_share.privacy.ledger.state import LedgerState, Release


def describe(state: LedgerState, budget: Budget) -> dict[str, Any]:
    """Plain values: every release, and how far the patients are on their way to the budget."""
    totals = list(state.totals().values())
    return {
        "sequence": state.mark.sequence,
        "digest": state.mark.digest,
        "budget": vars(budget),
        "patients": len(totals),
        "largest": vars(_largest(totals)),
        "patients_by_releases": {
            str(releases): count
            for releases, count in sorted(Counter(t.releases for t in totals).items())
        },
        "patients_without_releases_left": sum(t.releases >= budget.releases for t in totals),
        "releases": [_described(release) for release in state.releases],
        "notes": list(state.notes),
    }


def lines(state: LedgerState, budget: Budget) -> list[str]:
    """The same as text, a line each."""
    values = describe(state, budget)
    largest = values["largest"]
    count = len(state.releases)
    text = [
        f"{count} release{'' if count == 1 else 's'} of {values['patients']} patients; "
        f"entry {values['sequence']}",
        f"most that one patient has spent: {largest['releases']} of {budget.releases} releases "
        f"without differential privacy, epsilon {largest['epsilon']:g} of {budget.epsilon:g}, "
        f"delta {largest['delta']:g} of {budget.delta:g}",
        f"{values['patients_without_releases_left']} patients have no release without differential "
        "privacy left",
    ]
    text += [_line(release) for release in values["releases"]]
    return text + [f"note: {note}" for note in values["notes"]]


def _largest(totals: list[Total]) -> Total:
    return Total(
        epsilon=max((t.epsilon for t in totals), default=0.0),
        delta=max((t.delta for t in totals), default=0.0),
        releases=max((t.releases for t in totals), default=0),
        tiles=max((t.tiles for t in totals), default=0),
    )


def _described(release: Release) -> dict[str, Any]:
    epsilons = [e.epsilon for e in release.exposures.values() if e.epsilon is not None]
    return {
        "release": release.id,
        "sequence": release.sequence,
        "time": f"{release.time:%Y-%m-%dT%H:%M:%SZ}",
        "patients": len(release.exposures),
        "epsilon": max(epsilons, default=None),
        "bundles": list(release.bundles),
    }


def _line(release: dict[str, Any]) -> str:
    epsilon = release["epsilon"]
    price = "not differentially private" if epsilon is None else f"epsilon {epsilon:g}"
    bundles = ", ".join(bundle[:12] for bundle in release["bundles"])
    end = f"bundle {bundles}" if bundles else "spent and never signed"
    return f"{release['time']}  {release['patients']} patients  {price}  {end}"
