"""Training and evaluation: asked for, queued, run by workers, kept.

`plan_training` and `plan_evaluation` put a job into the queue. `JobRunner` gives queued jobs to
workers while a hub is served; `finish_job` does one in the foreground. A job is leased, so one that
was killed is taken up again, and a training goes on from its last checkpoint.

Names are imported when they are asked for: the process that serves a hub needs `JobRunner` alone,
and must not take the seconds and the memory of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub_server.jobs.comparing import compare_tiles
    from hub_server.jobs.curves import read_curves
    from hub_server.jobs.evaluating import plan_evaluation
    from hub_server.jobs.following import finish_job
    from hub_server.jobs.hub import Hub
    from hub_server.jobs.runner import JobRunner, is_served
    from hub_server.jobs.settings import EvaluateSettings, RealData, TrainSettings
    from hub_server.jobs.training import plan_training

__all__ = [
    "EvaluateSettings",
    "Hub",
    "JobRunner",
    "RealData",
    "TrainSettings",
    "compare_tiles",
    "finish_job",
    "is_served",
    "plan_evaluation",
    "plan_training",
    "read_curves",
]

_MODULES = {
    "EvaluateSettings": "settings",
    "Hub": "hub",
    "JobRunner": "runner",
    "RealData": "settings",
    "TrainSettings": "settings",
    "compare_tiles": "comparing",
    "finish_job": "following",
    "is_served": "runner",
    "plan_evaluation": "evaluating",
    "plan_training": "training",
    "read_curves": "curves",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
