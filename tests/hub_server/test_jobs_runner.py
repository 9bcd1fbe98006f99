"""Jobs outlive the hub and their workers: killed for real, and the bits are those of one run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hub_server import jobs as jobs_room
from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.jobs import (
    EvaluateSettings,
    JobRunner,
    finish_job,
    is_served,
    plan_evaluation,
    plan_training,
)
from hub_server.jobs.launchers import LocalLauncher
from hub_server.jobs.slurm import SlurmLauncher
from hub_server.jobs.worker import work_on
from hub_server.registry import JobState, jobs
from hub_server.registry.encoders import find_encoder, list_encoders
from pixcell_share.errors import SettingsError, StateError
from pixcell_share.ssl import SilentView
from tests.hub_server.job_hub import QUICK, look, make_folder, make_job_hub, opened, quick, until
from tests.training.program import free_port

LONG = {**QUICK["schedule"], "steps": 400}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    torch.set_num_threads(1)
    return make_job_hub(tmp_path_factory.mktemp("runner"))


@pytest.fixture
def hub(pristine: HubHome, tmp_path: Path) -> HubHome:
    return HubHome(Path(shutil.copytree(pristine.folder, tmp_path / "hub")))


def enqueue(home: HubHome, name: str = "one", **changes: object) -> str:
    with opened(home) as hub:
        wanted = quick(**changes)
        return plan_training(hub, type(wanted)(**{**vars(wanted), "name": name})).id


def weights(home: HubHome, name: str) -> bytes:
    with opened(home) as hub, hub.registry.reading() as session:
        path = hub.storage.path(f"{find_encoder(session, name).folder}/model.safetensors")
    assert path is not None
    return path.read_bytes()


def checkpoint(home: HubHome, job_id: str) -> bool:
    return (home.jobs / job_id / "checkpoints" / "latest").exists()


def worker_of(home: HubHome, job_id: str) -> int:
    """The process that has the job."""
    owner = look(home, job_id).lease_owner or ""
    assert owner.startswith("local-"), owner
    return int(owner.split("-")[1])


def test_killed_with_its_hub_a_training_ends_with_the_same_bits(hub: HubHome) -> None:
    """Hub and worker are killed; the next hub goes on after the lease, from the checkpoint."""
    changes = {"schedule": {**QUICK["schedule"], "steps": 30}, "save_every": 10}
    whole = enqueue(hub, "whole", **changes)
    finish_job(hub, whole, SilentView(), "operator:cli")
    broken = enqueue(hub, "broken", **changes)
    served = subprocess.Popen([sys.executable, "-c", _HUB, str(hub.folder)])
    until(lambda: checkpoint(hub, broken))
    os.kill(worker_of(hub, broken), signal.SIGKILL)
    served.kill()
    served.wait()
    assert look(hub, broken).state is JobState.RUNNING
    with JobRunner(hub, every_s=0.1):
        until(lambda: look(hub, broken).state not in (JobState.RUNNING, JobState.QUEUED))
    assert look(hub, broken).state is JobState.DONE, look(hub, broken).error
    assert look(hub, broken).attempts == 2
    assert weights(hub, "broken") == weights(hub, "whole")


_HUB = """
import sys, time
from pathlib import Path
from hub_server.home import HubHome
from hub_server.jobs import JobRunner
with JobRunner(HubHome(Path(sys.argv[1])), every_s=0.1):
    time.sleep(600)
"""


def test_a_cancelled_training_ends_and_a_hub_that_stops_gives_the_others_back(
    hub: HubHome,
) -> None:
    ended, given_back = (enqueue(hub, name, schedule=LONG) for name in ("ended", "other"))
    launcher = LocalLauncher(hub, 2)
    with JobRunner(hub, launcher, every_s=0.1):
        assert is_served(hub)
        until(lambda: checkpoint(hub, ended) and checkpoint(hub, given_back))
        with Acts.opened(hub, "operator:cli") as acts:
            acts.cancel_job(ended)
        until(lambda: not launcher.pending(ended, hub.jobs / ended))
    assert not is_served(hub)
    assert look(hub, ended).state is JobState.CANCELLED
    with pytest.raises(StateError, match="cancelled"):
        finish_job(hub, ended, SilentView(), "operator:cli")
    job = look(hub, given_back)
    assert (job.state, job.attempts, job.progress["steps"]) == (JobState.QUEUED, 0, 400)


def test_two_workers_do_not_do_the_same_job(hub: HubHome) -> None:
    job_id = enqueue(hub)
    with opened(hub) as open_hub, open_hub.registry.session() as session:
        assert jobs.claim(session, "other", job_id=job_id)
    assert work_on(hub, job_id, "late", SilentView()) is JobState.RUNNING
    assert look(hub, job_id).lease_owner == "other"


def test_a_worker_that_lost_its_job_keeps_nothing(hub: HubHome) -> None:
    """Its lease ran out, and another one took the job, while it was training."""
    job_id = enqueue(hub)

    class Thief(SilentView):
        def stage(self, *words: object, **more: object):  # type: ignore[no-untyped-def]
            with opened(hub) as open_hub, open_hub.registry.session() as session:
                job = jobs.find_job(session, job_id)
                job.lease_owner = "thief"
            return super().stage(*words, **more)  # type: ignore[arg-type]

    assert work_on(hub, job_id, "robbed", Thief()) is JobState.RUNNING
    assert look(hub, job_id).lease_owner == "thief"
    with opened(hub) as open_hub, open_hub.registry.reading() as session:
        assert list_encoders(session) == []


def test_a_failed_job_says_why(hub: HubHome) -> None:
    job_id = enqueue(hub)
    (hub.jobs / job_id / "job.json").write_text("{}")
    with pytest.raises(SettingsError):
        work_on(hub, job_id, "worker", SilentView())
    assert look(hub, job_id).state is JobState.FAILED
    assert "describes no training" in (look(hub, job_id).error or "")


def test_slurm_jobs_through_submitit(hub: HubHome, tmp_path: Path) -> None:
    """submitit's local executor runs the tasks that Slurm would."""
    with opened(hub) as open_hub:
        data = make_folder(tmp_path / "colours")
        wanted = EvaluateSettings(encoder="texture", dataset=str(data), device="cpu")
        job_id = plan_evaluation(open_hub, wanted).id
    launcher = SlurmLauncher(hub, {"timeout_min": 5}, cluster="local")
    with JobRunner(hub, launcher, every_s=0.1):
        until(lambda: look(hub, job_id).state not in (JobState.RUNNING, JobState.QUEUED))
        until(lambda: not launcher.pending(job_id, hub.jobs / job_id))
    assert look(hub, job_id).state is JobState.DONE, look(hub, job_id).error
    submissions = list((hub.jobs / job_id / "submitit").glob("*_submission.sh")) + list(
        (hub.jobs / job_id / "submitit").glob("*_submitted.pkl")
    )
    assert len(submissions) == 1


@pytest.mark.slow
def test_two_ranks_train_one_encoder(hub: HubHome) -> None:
    """As `torchrun` starts them: the first has the job, the other only computes."""
    job_id = enqueue(hub)
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "hub_server.jobs", str(hub.folder), job_id]
    ranks = [
        subprocess.Popen(command, env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    assert [rank.wait(180) for rank in ranks] == [0, 0]
    assert look(hub, job_id).state is JobState.DONE


def test_a_served_hub_does_without_torch() -> None:
    check = "import sys; from hub_server.jobs import JobRunner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_what_the_room_offers() -> None:
    assert set(jobs_room.__all__) == {
        *("EvaluateSettings", "Hub", "JobRunner", "RealData", "TrainSettings", "compare_tiles"),
        *("finish_job", "is_served", "plan_evaluation", "plan_training", "read_curves"),
    }
    assert all(hasattr(jobs_room, name) for name in jobs_room.__all__)
    assert not hasattr(jobs_room, "nothing")
