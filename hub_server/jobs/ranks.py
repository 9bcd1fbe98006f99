"""A job on one process or many: rank 0 has the lease and the registry, the others only compute."""

from __future__ import annotations

import os
import secrets

from hub_server.home import HubHome
from hub_server.jobs.training import run_rank
from hub_server.jobs.worker import work_on
from pixcell_share.progress import LineView


def do_job(home: HubHome, job_id: str, worker: str) -> None:
    """Do this process's part of a job, its rank being in the environment (as ``torchrun`` sets it).

    Args:
        home: the hub's; all ranks must see the same folder.
        job_id: which.
        worker: of what kind and where, for the lease.

    Raises:
        PixcellError: the job failed.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        run_rank(home.folder.absolute() / "jobs" / job_id)
        return
    with LineView() as view:
        work_on(home, job_id, f"{worker}-{secrets.token_hex(4)}", view)
