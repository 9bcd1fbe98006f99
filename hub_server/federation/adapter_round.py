"""An adapter round at the hub: a common LoRA goes out, trained and signed ones come back.

An update counts only if its signed record is of this training and exchange, promises what was
asked, and began with the common adapter; and if the adapter has the right form and moved no
further than its steps can move it. What is left out is named in the result, with the reason.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub_server.federation.asking import Asking
from hub_server.federation.combining import combine
from hub_server.federation.kept_arrays import answer_of, keep_start
from hub_server.federation.rounds import Heard
from pixcell_share.bundles.keys import parse_public_key
from pixcell_share.errors import BundleError, KeyFileError
from pixcell_share.federation import Outcome
from pixcell_share.federation.adapter_asks import LORA, AdapterAsk
from pixcell_share.pixcell.lora import add_lora, fill_lora, save_lora
from pixcell_share.training.base import Base
from pixcell_share.training.private import (
    Adapter,
    AdapterTask,
    SignedAdapter,
    adapter_bytes,
    adapter_digest,
    check_envelope,
    check_update,
    largest_change,
    seeded_adapter,
)

FILE = "pytorch_lora_weights.safetensors"
"""The common adapter at the end, in the round's folder."""


@dataclass(frozen=True)
class Counted:
    """An update that counts."""

    site: str
    adapter: Adapter
    signed: SignedAdapter

    @property
    def patients(self) -> float:
        """How many stand behind it, as the record implies."""
        record = self.signed.record
        return max(1.0, record.patients_per_step / record.sampling_rate)


def conduct(asking: Asking) -> Mapping[str, Any]:
    """All exchanges, and the adapter that comes out of them."""
    ask, folder = AdapterAsk.of(asking.wanted.ask), asking.folder.folder
    base = Base.load(ask.model)
    common: Adapter = seeded_adapter(base, ask.task(asking.wanted.id, 1).local)
    exchanges: list[dict[str, Any]] = []
    spent: dict[str, float | None] = {}
    for step in range(ask.rounds):
        counted, left_out = _exchange(asking, ask, step, common, base.sha256)
        exchanges.append({"counted": [one.site for one in counted], "left_out": left_out})
        if not counted:
            break
        spent |= {one.site: one.signed.record.epsilon for one in counted}
        adapters, weights = [one.adapter for one in counted], [one.patients for one in counted]
        common = combine(ask.strategy, adapters, weights)
    add_lora(base.transformer, ask.rank, ask.alpha, seed=ask.seed)
    fill_lora(base.transformer, _tensors(common))
    save_lora(base.transformer, folder / FILE, base_sha256=base.sha256)
    keep_start(folder / "adapter", common)
    return {
        "adapter": adapter_digest(common),
        "bytes": adapter_bytes(common),
        "strategy": ask.strategy,
        "epsilon": spent,
        "exchanges": exchanges,
    }


def _exchange(
    asking: Asking, ask: AdapterAsk, step: int, common: Adapter, base: str
) -> tuple[list[Counted], dict[str, str]]:
    """The updates of one exchange that count, and why others do not."""
    task = ask.task(asking.wanted.id, step + 1)
    heard = asking.ask(step, {LORA + name: value for name, value in common.items()})
    counted: list[Counted] = []
    left_out: dict[str, str] = {}
    for each in heard:
        if each.answer.outcome is Outcome.DONE:
            found = _checked(asking, each, step, task, common, base)
            if isinstance(found, Counted):
                counted.append(found)
            else:
                left_out[each.site] = found
    return counted, left_out


def _checked(
    asking: Asking, heard: Heard, step: int, task: AdapterTask, common: Adapter, base: str
) -> Counted | str:
    """The update of a site, or why it does not count."""
    arrays = answer_of(asking.folder.folder, step, heard.site)
    # `check_update` looks at the kind of each array first.
    adapter: Any = {n.removeprefix(LORA): a for n, a in arrays.items() if n.startswith(LORA)}
    largest = largest_change(common, task.local, len(task.steps))
    fault = check_update(adapter, common, largest)
    if fault is not None:
        return fault.value
    try:
        envelope = base64.b64decode(str(heard.answer.result.get("record", "")), validate=True)
        key = parse_public_key(heard.signer.encode(), "the site's key")
        signed = check_envelope(envelope, [key], adapter)
    except (binascii.Error, BundleError, KeyFileError):
        return "record_not_signed"
    if not _as_asked(signed, task, common, base):
        return "record_of_another_training"
    return Counted(heard.site, adapter, signed)


def _as_asked(signed: SignedAdapter, task: AdapterTask, common: Adapter, base: str) -> bool:
    record, privacy = signed.record, task.privacy
    granted = math.inf if record.epsilon_granted is None else record.epsilon_granted
    return (
        (signed.training, signed.round, signed.rounds) == (task.training, task.round, task.rounds)
        and signed.start == adapter_digest(common)
        and record.base_sha256 == base
        and granted <= privacy.epsilon
        and record.delta <= privacy.delta
        and record.steps == task.steps.stop
    )


def _tensors(adapter: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in adapter.items()}
