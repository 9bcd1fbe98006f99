"""Is what came out of the failing sites' round right? Reckoned again from what the sites kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _failing_federation import PATIENTS, Federation, Plan
from _failing_site import DOWN, LOST, RAISES

from hub_server.federation.kept_arrays import start_of
from hub_server.federation.rounds import RoundFolder
from pixcell_share.federation import Outcome
from site_agent.federation.places import Places
from site_agent.home import SiteHome

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-6
"""Of a mean of float32 numbers, relative to the largest."""


def check(federation: Federation, plan: Plan, folder: RoundFolder) -> dict[str, Any]:
    """Everything that has to hold.

    Raises:
        AssertionError: naming what does not.
    """
    result, number = folder.load(), folder.folder.name
    assert result.state == "done", f"the round is {result.state}"
    exchanges = result.result["exchanges"]
    assert len(exchanges) == len(plan), f"{len(exchanges)} exchanges"
    for step, exchange in enumerate(exchanges):
        wanted = {site.name for site in answering(federation, plan, step)}
        wrong = wanted ^ set(exchange["counted"])
        assert not wrong, f"exchange {step}: {sorted(wrong)} are counted, or not, against the plan"
        assert not exchange["left_out"], f"exchange {step}: {exchange['left_out']}"
    answers = Counter((heard.site, heard.answer.step) for heard in folder.answers())
    assert set(answers.values()) == {1}, "an answer stands twice"
    return {
        "exchanges": len(exchanges),
        "counted": sum(len(exchange["counted"]) for exchange in exchanges),
        "failed_with_a_code": sum(
            heard.answer.outcome is Outcome.FAILED for heard in folder.answers()
        ),
        "largest_difference_to_numpy": max(differences(federation, plan, number, folder)),
        "ledger": ledgers(federation),
    }


def answering(federation: Federation, plan: Plan, step: int) -> list[Any]:
    """The sites whose answers to an exchange have to count."""
    away = {int(n) for n, (way, _) in plan[str(step)].items() if way in (DOWN, RAISES, LOST)}
    return [site for number, site in enumerate(federation.sites) if number not in away]


def differences(
    federation: Federation, plan: Plan, number: str, folder: RoundFolder
) -> list[float]:
    """Of each exchange: numpy's mean of what the sites kept, and what went out in the next one."""
    found = []
    for step in range(len(plan)):
        if step + 1 < len(plan):
            came = _load(federation.folder / "notes" / f"sent-{step + 1}.npz")
        else:
            came = {f"lora.{name}": a for name, a in start_of(folder.folder / "adapter").items()}
        mean = numpy_mean(federation, plan, number, step)
        assert set(mean) == set(came), f"exchange {step}: other arrays"
        largest = max(float(np.abs(value).max()) for value in mean.values())
        apart = max(float(np.abs(mean[name] - came[name]).max()) for name in mean)
        assert apart <= TOLERANCE * largest, f"exchange {step}: {apart} from numpy's mean"
        found.append(apart / largest)
    return found


def numpy_mean(federation: Federation, plan: Plan, number: str, step: int) -> Arrays:
    """Weighted by patients, in float64, over the sites that answered."""
    total: Arrays = {}
    patients = 0
    for site in answering(federation, plan, step):
        own = PATIENTS[federation.sites.index(site) % len(PATIENTS)]
        kept = _load(Places(SiteHome(site.home)).round(number) / f"answer-{step}.npz")
        patients += own
        for name, value in kept.items():
            total[name] = total.get(name, 0.0) + own * value.astype(np.float64)
    return {name: value / patients for name, value in total.items()}


def ledgers(federation: Federation) -> dict[str, Any]:
    """Every site was charged once for the whole training."""
    charged = []
    for number, site in enumerate(federation.sites):
        home = SiteHome(site.home)
        (release,) = home.ledger(home.load_key()).verify().releases
        epsilons = [exposure.epsilon for exposure in release.exposures.values()]
        assert len(epsilons) == PATIENTS[number % len(PATIENTS)], f"{site.name}: {epsilons}"
        charged += epsilons
    assert set(charged) == {8.0}, f"charged: {sorted(set(charged))}"
    return {"sites_charged_once": len(federation.sites), "epsilon_of_each_patient": 8.0}


def ways(plan: Plan) -> dict[str, int]:
    """How often what went wrong."""
    return dict(Counter(way for step in plan.values() for way, _ in step.values()))


def _load(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
