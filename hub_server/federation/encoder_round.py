"""An encoder round at the hub: one encoder goes out, figures of each site come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub_server.federation.asking import Asking
from hub_server.federation.kept_arrays import start_of
from pixcell_share.federation import Outcome


def conduct(asking: Asking) -> Mapping[str, Any]:
    """Ask once; each site's figures, and their plain mean over sites for each protocol."""
    heard = asking.ask(arrays=start_of(asking.folder.folder))
    done = {h.site: h.answer.result for h in heard if h.answer.outcome is Outcome.DONE}
    figures = {site: result["balanced_accuracy"] for site, result in done.items()}
    tasks = sorted({task for found in figures.values() for task in found})
    means = {
        task: sum(found[task]["value"] for found in figures.values()) / len(figures)
        for task in tasks
    }
    return {"sites": figures, "mean": {task: round(mean, 4) for task, mean in means.items()}}
