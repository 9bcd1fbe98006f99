"""Training and evaluation: asked for, queued, run by workers, kept.

`plan_training` and `plan_evaluation` put a job into the queue. `JobRunner` gives queued jobs to
workers while a hub is served; `finish_job` does one in the foreground. A job is leased, so one that
was killed is taken up again, and a training goes on from its last checkpoint.
"""

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
