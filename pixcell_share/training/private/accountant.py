"""How much noise an epsilon asks for in DP-SGD, and what the steps done so far have cost.

Both are opacus' own: "prv" (Gopi, Lee and Wutschitz, NeurIPS 2021) decides, "rdp" (Mironov, Talwar
and Zhang, arXiv:1908.10530) is an upper bound by other means that "prv" may not pass. With q = 1
the steps together are one Gaussian mechanism, for which the exact formula is the check as well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.privacy.accounting import ACCOUNTANT, EPSILON_RANGE, compose_gaussian

CHECK = "rdp"
"""Opacus' second accountant."""
History = Sequence[tuple[float, float, int]]
"""Noise multiplier, sampling rate and number of steps, as opacus keeps them."""

_SLACK = 0.02
"""How far two right accountants may differ in rounding: twice the error that "prv" is asked for."""


def accountant_version() -> str:
    """Package and version of the accountants."""
    return f"opacus {version('opacus')}"


@lru_cache(maxsize=64)
def noise_multiplier_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least noise, to 1 % or 0.01 of epsilon, that keeps (epsilon, delta).

    Args:
        epsilon: of all steps together, within `EPSILON_RANGE`.
        delta: between 0 and 1.
        rate: probability that a patient takes part in a step.
        steps: in all.

    Returns:
        Standard deviation of the noise in units of the clip.

    Raises:
        SettingsError: epsilon is out of range, or no noise is enough.
        AuditError: opacus' accountants contradict each other or the exact formula.
    """
    low, high = EPSILON_RANGE
    if not low <= epsilon <= high:
        raise SettingsError(
            f"epsilon = {epsilon!r} is not between {low:g} and {high:g}",
            "use a value such as 1, 3 or 8",
        )
    multiplier = _ask_opacus(epsilon, delta, rate, steps)
    claimed = epsilon_of([(multiplier, rate, steps)], delta)
    if claimed > epsilon:
        raise AuditError(
            f"opacus gave a noise multiplier of {multiplier:.4f} for epsilon {epsilon:g}, and "
            f"claims {claimed:.4f} for it",
            "install the version of opacus that constraints.txt names",
        )
    return multiplier


def epsilon_of(history: History, delta: float, accountant: str = ACCOUNTANT) -> float:
    """What steps have cost by opacus' accountant; 0 where there were none.

    Raises:
        AuditError: "prv" claims less than the exact formula or more than "rdp".
    """
    if not history:
        return 0.0
    claimed = _claim(tuple(history), delta, accountant)
    if accountant == ACCOUNTANT:
        _compare(history, delta, claimed)
    return claimed


class Accountant:
    """Opacus' accountant of one training, with its state as a tensor for a checkpoint.

    Args:
        noise_multiplier: of every step.
        rate: sampling rate of every step.
        before: steps of earlier rounds, with the same noise and rate.
    """

    def __init__(self, noise_multiplier: float, rate: float, before: int = 0) -> None:
        self._noise, self._rate = noise_multiplier, rate
        self._opacus = _create(ACCOUNTANT)
        if before:
            self._opacus.history = [(noise_multiplier, rate, before)]
        self._state = torch.zeros(3, dtype=torch.float64)

    def step(self) -> None:
        """Count one step. To be called before its result can be seen."""
        self._opacus.step(noise_multiplier=self._noise, sample_rate=self._rate)

    @property
    def history(self) -> list[tuple[float, float, int]]:
        """As opacus keeps it."""
        return list(self._opacus.state_dict()["history"])

    @property
    def steps(self) -> int:
        """Steps counted."""
        return sum(steps for *_, steps in self.history)

    def tensors(self) -> dict[str, Tensor]:
        """Its state, (3,) float64; reading a checkpoint fills it in place, see `restore`."""
        now = [self._noise, self._rate, self.steps]
        self._state.copy_(torch.tensor(now, dtype=torch.float64))
        return {"accountant/history": self._state}

    def restore(self) -> None:
        """Go on from what was read.

        Raises:
            AuditError: the checkpoint was made with another noise or sampling rate.
        """
        noise, rate, steps = self._state.tolist()
        if (noise, rate) != (self._noise, self._rate):
            raise AuditError(
                f"the checkpoint was made with noise {noise:g} and sampling rate {rate:g}, not "
                f"{self._noise:g} and {self._rate:g}",
                "start in a new folder; what was spent stays spent",
            )
        self._opacus.load_state_dict(
            {"history": [(noise, rate, int(steps))], "mechanism": ACCOUNTANT}
        )


def _create(name: str) -> Any:
    """Imported here: opacus takes seconds to import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import create_accountant

        return create_accountant(name)


def _ask_opacus(epsilon: float, delta: float, rate: float, steps: int) -> float:
    error = _error(epsilon)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants.utils import get_noise_multiplier

        try:
            found = get_noise_multiplier(
                target_epsilon=epsilon - error / 10, target_delta=delta, sample_rate=rate,
                steps=steps, accountant=ACCOUNTANT, epsilon_tolerance=error, eps_error=error,
            )  # fmt: skip
        except (ValueError, RuntimeError) as failed:
            raise SettingsError(
                f"opacus finds no noise for epsilon {epsilon:g} and delta {delta:g} over {steps} "
                f"steps: {failed}",
                "use a larger epsilon, or other numbers of steps and patients per step",
            ) from failed
    return float(found)


@lru_cache(maxsize=256)
def _claim(history: tuple[tuple[float, float, int], ...], delta: float, accountant: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = _create(accountant)
        asked.history = list(history)
        try:
            return (
                float(asked.get_epsilon(delta=delta))
                if accountant == CHECK
                else _fine(asked, delta)
            )
        except RuntimeError as failed:
            raise AuditError(
                f"opacus cannot account for these steps: {failed}",
                "use other numbers of steps and patients per step",
            ) from failed


def _fine(accountant: Any, delta: float) -> float:
    """Epsilon, first coarsely: the fine one needs the size of what it is to be fine about."""
    coarse = float(accountant.get_epsilon(delta=delta, eps_error=_error(1.0)))
    error = _error(coarse)
    if error == _error(1.0):
        return coarse
    return float(accountant.get_epsilon(delta=delta, eps_error=error))


def _compare(history: History, delta: float, claimed: float) -> None:
    upper = _claim(tuple(history), delta, CHECK)
    lower = 0.0
    if all(rate == 1 for _, rate, _ in history):
        lower = compose_gaussian([n for n, _, steps in history for _ in range(steps)], delta)
    if not lower - 1e-3 <= claimed <= upper + _SLACK or math.isnan(claimed):
        raise AuditError(
            f"opacus claims epsilon {claimed:.4f} by {ACCOUNTANT} and {upper:.4f} by {CHECK}; the "
            f"exact value is at least {lower:.4f}",
            "install the version of opacus that constraints.txt names",
        )


def _error(epsilon: float) -> float:
    """The accuracy that "prv" is asked for: 0.01, or a twentieth of a small epsilon."""
    return min(0.01, epsilon / 20)
