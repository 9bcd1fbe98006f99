"""An adapter round at a site: the ledger is charged, a LoRA is trained, what leaves is signed."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import ReleaseRefusedError
from pixcell_share.federation import Outcome, Reason, RefusedRoundError
from pixcell_share.federation.adapter_asks import LORA, AdapterAsk
from pixcell_share.files import atomic_path
from site_agent.federation.desk import Desk
from site_agent.federation.own_data import data_settings
from site_agent.federation.own_tiles import Arrays
from site_agent.federation.watch import may_go_on
from site_agent.federation.work import WithArrays

if TYPE_CHECKING:
    from pixcell_share.training.latents.settings import LatentSettings

_REGION_PX = 256


class AdapterRound:
    """Handles `AdapterAsk`."""

    def permit(self, desk: Desk) -> None:
        """Model and epsilon; the budget is asked before the first step.

        Raises:
            RefusedRoundError: one of them is more than the site allows.
        """
        ask, policy = AdapterAsk.of(desk.request.ask), desk.policy
        if ask.model not in policy.models:
            raise RefusedRoundError(Reason.MODEL)
        if not ask.private and not policy.without_dp:
            raise RefusedRoundError(Reason.NO_PRIVACY)
        if ask.epsilon > policy.epsilon:
            raise RefusedRoundError(Reason.EPSILON)
        if not (policy.slides or policy.tiles):
            raise RefusedRoundError(Reason.NO_DATA)
        if desk.request.step >= ask.rounds:
            raise RefusedRoundError(Reason.MALFORMED)

    def work(self, desk: Desk, arrays: Arrays) -> WithArrays:
        """Encode the site's tiles once, charge, train, sign.

        Raises:
            RefusedRoundError: the budget is spent, there are too few patients, or the agent stops.
        """
        from pixcell_share.training.latents import LatentStore, Source
        from pixcell_share.training.latents.make import make_store
        from pixcell_share.training.private import (
            AdapterSite,
            LoopSettings,
            Patients,
            answer_adapter_task,
        )

        ask, places = AdapterAsk.of(desk.request.ask), desk.places.folder
        store = places / "latents" / ask.model
        make_store(_latents(desk, desk.policy.models[ask.model], store), desk.view)
        if len(Patients.of([Source(LatentStore.open(store), 1)])) < desk.policy.patients:
            raise RefusedRoundError(Reason.TOO_FEW)
        site = AdapterSite(
            model=desk.policy.models[ask.model],
            latents=(store,),
            folder=places / "trainings",
            ledger=desk.home.ledger(desk.key),
            budget=desk.home.config().budget,
            key=desk.key,
            loop=LoopSettings(device=desk.policy.device),
        )
        start = _start(arrays)
        try:
            found = answer_adapter_task(
                ask.task(desk.request.round, desk.request.step + 1),
                start or None,
                site,
                say=desk.view.say,
                wants_stop=_wish(desk),
            )
        except ReleaseRefusedError as error:
            raise RefusedRoundError(Reason.BUDGET) from error
        if found is None:
            raise RefusedRoundError(Reason.STOPPED, Outcome.FAILED)
        signed = base64.b64encode(found.envelope).decode()
        return WithArrays({"record": signed}, {LORA + n: a for n, a in found.adapter.items()})


def _start(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """The common adapter that came along; names and shapes are checked by the trainer."""
    found = {n.removeprefix(LORA): a for n, a in arrays.items() if n.startswith(LORA)}
    if any(array.dtype != np.float32 for array in found.values()):
        raise RefusedRoundError(Reason.MALFORMED)
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


def _wish(desk: Desk) -> Callable[[], bool]:
    """Whether the agent stops, or the working hours are over."""
    go_on = may_go_on(desk.policy, desk.places.stop_file)

    def wants_stop() -> bool:
        try:
            go_on()
        except RefusedRoundError:
            return True
        return False

    return wants_stop


def _latents(desk: Desk, model: str, out: Path) -> LatentSettings:
    """The site's tiles as the trainer reads them: all are for training."""
    from pixcell_share.training.latents.models import CoderSettings
    from pixcell_share.training.latents.settings import LatentSettings
    from pixcell_share.training.latents.split import Holdout

    own = data_settings(desk, out, model=model)
    coder = CoderSettings(vae=model, encoder=own.encoder_name, device=desk.policy.device)
    table = own.table
    if own.tiles is not None and table is not None:
        table = _picture_table(table, own.patient_column, out.parent / "regions.csv")
    return LatentSettings(
        slides=own.slides, regions=own.tiles, table=table, out=out, coder=coder,
        region_px=_REGION_PX, resize=own.tiles is not None, holdout=Holdout(0.0),
    )  # fmt: skip


def _picture_table(table: Path, patient_column: str, out: Path) -> Path:
    """The same tiles and patients, with the trainer's names of columns."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        rows = [[row["file"], row[patient_column]] for row in csv.DictReader(stream)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as part, part.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["file", "case"], *rows])
    return out
