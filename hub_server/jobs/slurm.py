"""Jobs as Slurm jobs, through submitit.

``[jobs] executor = "slurm"`` in hub.toml, and a table of submitit's parameters::

    [jobs.slurm]
    slurm_partition = "gpu"
    gpus_per_node = 4
    tasks_per_node = 4
    cpus_per_task = 12
    timeout_min = 1440

Each task is a rank; the first has the job's lease. When Slurm stops a job (preemption, the end of
its time) submitit puts it into Slurm's queue again, and the training goes on from its last
checkpoint. The nodes must see the hub's folder, and its database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.core import Job as Submission
from submitit.helpers import Checkpointable, TorchDistributedEnvironment

from hub_server.home import HubHome
from hub_server.jobs.ranks import do_job
from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_write_text

_SUBMISSION = "submission.json"
_LOGS = "submitit"


@dataclass
class SlurmTask(Checkpointable):  # type: ignore[misc]
    """What a task of Slurm runs."""

    home: str
    job_id: str

    def __call__(self) -> None:
        """This rank's part of the job."""
        environment = submitit.JobEnvironment()
        if environment.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        do_job(HubHome(Path(self.home)), self.job_id, f"slurm-{environment.job_id}")


class SlurmLauncher:
    """Submits jobs; Slurm has the queue.

    Args:
        home: the hub's, on a file system that the nodes see.
        parameters: of submitit's `AutoExecutor`, such as ``slurm_partition`` or ``timeout_min``.
        cluster: ``slurm``; ``local`` runs the tasks on this machine.
    """

    room: int | None = None

    def __init__(
        self, home: HubHome, parameters: Mapping[str, Any], cluster: str = "slurm"
    ) -> None:
        self._home = str(home.folder.absolute())
        self._parameters, self._cluster = parameters, cluster
        self._submitted: dict[str, Submission[None]] = {}

    def launch(self, job_id: str, folder: Path) -> None:
        """Submit a job.

        Raises:
            SettingsError: Slurm is not here, or does not take the parameters.
        """
        try:
            executor = submitit.AutoExecutor(folder / _LOGS, cluster=self._cluster)
            executor.update_parameters(name=f"pixcell-{job_id[:8]}", **self._parameters)
            submission = executor.submit(SlurmTask(self._home, job_id))
        except (RuntimeError, NameError, TypeError, submitit.core.utils.FailedJobError) as error:
            raise SettingsError(
                f"Slurm did not take the job: {error}", "mend [jobs.slurm] in hub.toml"
            ) from error
        self._submitted[job_id] = submission
        atomic_write_text(folder / _SUBMISSION, json.dumps({"id": submission.job_id}) + "\n")

    def pending(self, job_id: str, folder: Path) -> bool:
        """Whether Slurm has the job, waiting or running."""
        submission = self._find(job_id, folder)
        return submission is not None and not submission.done()

    def cancel(self, job_id: str, folder: Path) -> None:
        """``scancel``, if it was submitted."""
        submission = self._find(job_id, folder)
        if submission is not None and not submission.done():
            submission.cancel(check=False)

    def close(self) -> None:
        """Slurm's jobs go on without the hub."""

    def _find(self, job_id: str, folder: Path) -> Submission[None] | None:
        """The latest submission of a job, also that of a hub before this one."""
        path = folder / _SUBMISSION
        if job_id not in self._submitted and path.exists():
            number = json.loads(path.read_text(encoding="utf-8"))["id"]
            kind = submitit.AutoExecutor(folder / _LOGS, cluster=self._cluster).job_class
            self._submitted[job_id] = kind(folder / _LOGS, number)
        return self._submitted.get(job_id)
