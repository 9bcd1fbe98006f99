"""Does differentially private conditioning keep the epsilon that it claims?

One-run audits (Steinke et al. 2023) of the noised statistics: canary patients are in or out by a
coin, and guessed from the output. For each epsilon the noise is as claimed, then a half and a
quarter of it by intent: an audit that could not tell would prove nothing. The bound is the median
over the runs, with its lowest and highest, and beside it the most that the audit could have shown.
With the full noise no more than one run of twenty may lie above the claim. At epsilon 8 no audit of
this size can show too little noise: it would need more canaries than delta = 1e-5 leaves of use.

    python benchmarks/dp_audit.py [--runs 20] [--canaries 1000] [--guesses 200]

Writes benchmarks/results/dp_audit_<machine>.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from _results import write_result

from pixcell_share.privacy.accounting import gaussian_epsilon, noise_for
from pixcell_share.privacy.one_run import audit_mechanism

EPSILONS = (1.0, 3.0, 8.0)
PORTIONS = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class Line:
    """Audits of one epsilon with one portion of its noise."""

    claimed: float
    """What the accountant claims of the full noise."""
    exact: float
    """What the formula gives for it (Balle and Wang 2018)."""
    noise_multiplier: float
    """Of the full noise."""
    portion: float
    """Of the noise that was used."""
    true: float
    """Exact epsilon of the noise that was used."""
    bound: float
    """Median over the runs of the lower bound on epsilon."""
    bound_lowest: float
    bound_highest: float
    above_claim: int
    """Runs whose bound lies above the claim."""
    detectable: float
    """The bound if every guess were right."""


def audit(epsilon: float, portion: float, args: argparse.Namespace) -> Line:
    noise = noise_for(epsilon, args.delta)
    used = noise.multiplier * portion
    runs = [
        audit_mechanism(
            used, args.delta, canaries=args.canaries, guesses=args.guesses,
            secret=hashlib.sha256(f"{epsilon} {portion} {run}".encode()).digest(),
        )
        for run in range(args.runs)
    ]  # fmt: skip
    bounds = [run.epsilon_low for run in runs]
    return Line(
        claimed=noise.epsilon,
        exact=gaussian_epsilon(noise.multiplier, args.delta),
        noise_multiplier=noise.multiplier,
        portion=portion,
        true=gaussian_epsilon(used, args.delta),
        bound=float(np.median(bounds)),
        bound_lowest=min(bounds),
        bound_highest=max(bounds),
        above_claim=sum(bound > noise.epsilon for bound in bounds),
        detectable=runs[0].detectable,
    )


def table(lines: list[Line], runs: int) -> str:
    head = "claimed  noise x  true eps  lower bound (range)      above claim  detectable"
    rows = [
        f"{line.claimed:7.2f}  {line.portion:7g}  {line.true:8.2f}  {line.bound:5.2f} "
        f"({line.bound_lowest:.2f} to {line.bound_highest:.2f})".ljust(53)
        + f"{line.above_claim:2} of {runs}  {line.detectable:13.2f}"
        for line in lines
    ]
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--canaries", type=int, default=1000)
    parser.add_argument("--guesses", type=int, default=200)
    parser.add_argument("--delta", type=float, default=1e-5)
    args = parser.parse_args()
    lines = [audit(epsilon, portion, args) for epsilon in EPSILONS for portion in PORTIONS]
    print(table(lines, args.runs))
    result = {"settings": vars(args), "audits": [json.loads(json.dumps(asdict(x))) for x in lines]}
    print(write_result("dp_audit", result, ("numpy", "scipy", "opacus")))


if __name__ == "__main__":
    main()
