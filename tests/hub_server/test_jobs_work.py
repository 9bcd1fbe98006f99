"""From an accepted cohort to an encoder and its place on the leaderboard, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hub_server.home import HubHome
from hub_server.intake import withdraw
from hub_server.jobs import (
    EvaluateSettings,
    RealData,
    TrainSettings,
    compare_tiles,
    finish_job,
    plan_evaluation,
    plan_training,
    read_curves,
)
from hub_server.jobs.cohort_pictures import CohortPictures
from hub_server.jobs.terms import check_terms
from hub_server.registry import CohortState, JobState
from hub_server.registry.cohorts import list_cohorts
from hub_server.registry.encoders import find_encoder
from hub_server.registry.leaderboard import leaderboard
from hub_server.registry.lineage import trained_on
from pixcell_share.encoders import load_encoder
from pixcell_share.errors import NotFoundError, PixcellError, SettingsError, StateError
from pixcell_share.evaluation import EvaluationResult
from pixcell_share.progress import View
from pixcell_share.ssl import SilentView, SourceSettings
from tests.hub_server.job_hub import SITE, look, make_folder, make_job_hub, opened, quick

VIEW: View = SilentView()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    torch.set_num_threads(1)
    return make_job_hub(tmp_path_factory.mktemp("jobs"))


@pytest.fixture
def hub(pristine: HubHome, tmp_path: Path) -> HubHome:
    return HubHome(Path(shutil.copytree(pristine.folder, tmp_path / "hub")))


@pytest.fixture(scope="module")
def taught(pristine: HubHome, tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    """A hub with the encoder ``one``; tests only read it."""
    folder = tmp_path_factory.mktemp("taught") / "hub"
    home = HubHome(Path(shutil.copytree(pristine.folder, folder)))
    with opened(home) as hub:
        job = plan_training(hub, quick())
    finish_job(home, job.id, VIEW, "operator:cli")
    return home


def cohort_of(home: HubHome) -> str:
    with opened(home) as hub, hub.registry.reading() as session:
        return list_cohorts(session)[0].id


def test_a_training_ends_as_an_encoder_with_lineage_and_terms(taught: HubHome) -> None:
    with opened(taught) as hub, hub.registry.reading() as session:
        encoder = find_encoder(session, "one")
        cohort = list_cohorts(session)[0]
        assert [each.id for each in trained_on(session, cohort.id)] == [encoder.id]
        assert encoder.noncommercial == cohort.noncommercial
        config = hub.storage.path(f"{encoder.folder}/timm/config.json")
        keys = set(hub.storage.list(encoder.folder))
    assert encoder.card["data"][0]["digest"] == cohort.id
    assert encoder.card["licences"] == cohort.licences
    assert config is not None
    assert load_encoder(str(config.parents[1])).identity.sha256 == encoder.digest
    files = {key.removeprefix(f"{encoder.folder}/") for key in keys}
    assert {"model.safetensors", "model.pth", "card.json", "card.md", "thunder/one.py"} <= files
    acts = [act.act for act in reversed(taught.log().latest(3))]
    assert acts == ["cohort.accepted", "job.enqueue", "encoder.add"]


def test_a_training_logs_its_curves_and_hides_paths(taught: HubHome) -> None:
    with opened(taught) as hub, hub.registry.reading() as session:
        job_id = find_encoder(session, "one").job_id
    assert job_id is not None
    job = look(taught, job_id)
    assert job.state is JobState.DONE
    assert (job.progress["step"], job.progress["steps"], job.progress["encoder"]) == (4, 4, "one")
    lines = read_curves(taught.jobs / job.id)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    with (taught.jobs / job.id / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    assert read_curves(taught.jobs / job.id) == lines
    assert str(taught.folder) not in json.dumps([job.settings, job.progress])


def test_an_evaluation_stands_on_the_leaderboard(taught: HubHome, tmp_path: Path) -> None:
    data = make_folder(tmp_path / "colours")
    for encoder in ("one", "nano"):
        with opened(taught) as hub:
            wanted = EvaluateSettings(encoder=encoder, dataset=str(data), device="cpu")
            job = plan_evaluation(hub, wanted)
        finish_job(taught, job.id, VIEW, "operator:cli")
        stored = EvaluationResult.from_json((taught.jobs / job.id / "result.json").read_text())
    with opened(taught) as hub, hub.registry.reading() as session:
        board = leaderboard(session)
    rows = {row.encoder: row for row in board.rows}
    assert rows.keys() == {"one", "nano"}
    assert rows["one"].encoder_id is not None
    assert rows["nano"].encoder_id is None
    assert rows["nano"].figures["colours"].value == stored.balanced_accuracy.value == 1.0


def test_a_folder_may_not_take_over_the_name_of_an_encoder(taught: HubHome, tmp_path: Path) -> None:
    source = load_encoder("nano").spec.source
    folder = Path(shutil.copytree(source.repo, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text()) | {"name": "one"}
    (folder / "config.json").write_text(json.dumps(config))
    with opened(taught) as hub:
        data = make_folder(tmp_path / "colours")
        wanted = EvaluateSettings(encoder=str(folder), dataset=str(data), device="cpu")
        job = plan_evaluation(hub, wanted)
    with pytest.raises(SettingsError, match="other weights"):
        finish_job(taught, job.id, VIEW, "operator:cli")
    failed = look(taught, job.id)
    assert failed.state is JobState.FAILED
    assert "other weights" in (failed.error or "")


def test_a_cohort_is_like_itself_and_not_like_colours(taught: HubHome, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "colours")
    with opened(taught) as hub:
        same = compare_tiles(hub, SITE, cohort_of(taught)[:10], encoder="one", device="cpu")
        other = compare_tiles(hub, SITE, str(folder), encoder="one", device="cpu")
        twice = compare_tiles(hub, str(folder), str(folder), encoder="one", device="cpu")
    assert same.sizes == (12, 12)
    assert same.frechet == pytest.approx(0, abs=1e-4)
    assert same.nearest_cosine == pytest.approx(1, abs=1e-5)
    assert same.paired_cosine is None
    assert other.frechet > 10 * abs(same.frechet)
    assert twice.paired_cosine is not None


def test_pictures_of_a_cohort_are_its_canonical_tiles(taught: HubHome) -> None:
    with opened(taught) as hub, hub.registry.reading() as session:
        cohort = list_cohorts(session)[0]
        assert cohort.canonical is not None
        pictures = CohortPictures(hub.storage, cohort.canonical)
        path = hub.storage.path(f"cohorts/{cohort.id}/images-00000.npy")
    assert path is not None
    tiles = np.load(path)
    assert len(pictures) == len(tiles) == 12
    assert np.array_equal(np.stack(list(pictures.read(range(3, 7)))), tiles[3:7])
    assert list(pictures.digests()) == [hashlib.sha256(path.read_bytes()).hexdigest()]


def test_real_tiles_beside_a_cohort(hub: HubHome, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40), (90, number, 9)).save(tmp_path / "own" / f"{number}.png")
    real = RealData(folder=tmp_path / "own", licences=("CC-BY-NC-4.0",), noncommercial=True)
    with opened(hub) as open_hub:
        job = plan_training(open_hub, replace(quick(f"{SITE}:synthetic"), real=(real,)))
    finish_job(hub, job.id, VIEW, "operator:cli")
    with opened(hub) as open_hub, open_hub.registry.reading() as session:
        encoder = find_encoder(session, "one")
        sources = [(each.role.value, each.cohort_id, each.dataset) for each in encoder.sources]
    assert sources == [("synthetic", cohort_of(hub), None), ("real", None, "own")]
    assert encoder.noncommercial
    assert "CC-BY-NC-4.0" in encoder.card["licences"]


@pytest.mark.parametrize(
    ("wanted", "error", "named"),
    [
        (TrainSettings(), SettingsError, "nothing to learn from"),
        (quick("hospital-z"), NotFoundError, "no one cohort"),
        (quick(f"{SITE}:real"), SettingsError, "is synthetic"),
        (quick(SITE, SITE), SettingsError, "named twice"),
        (quick(SITE, seed="3"), SettingsError, "seed"),
        (replace(quick(), preset="huge"), SettingsError, "no preset"),
        (replace(quick(), arch="dinov2_vitb14"), SettingsError, "patches of 14"),
        (replace(quick(), name="a/b"), SettingsError, "encoder"),
    ],
)
def test_a_wrong_training_is_refused_before_it_is_queued(
    hub: HubHome, wanted: TrainSettings, error: type[PixcellError], named: str
) -> None:
    with opened(hub) as open_hub, pytest.raises(error) as refused:
        plan_training(open_hub, wanted)
    assert named in refused.value.cause
    assert [path for path in hub.jobs.iterdir() if path.is_dir()] == []


def test_a_withdrawn_cohort_teaches_nothing_any_more(hub: HubHome) -> None:
    with opened(hub) as open_hub:
        queued = plan_training(open_hub, quick())
    withdraw(hub, cohort_of(hub), actor="operator:cli", reason="a patient objected")
    with pytest.raises(StateError, match="withdrawn"):
        finish_job(hub, queued.id, VIEW, "operator:cli")
    assert look(hub, queued.id).state is JobState.FAILED
    with opened(hub) as open_hub, pytest.raises(NotFoundError, match="no accepted cohort"):
        plan_training(open_hub, quick())
    with opened(hub) as open_hub, pytest.raises(StateError, match=CohortState.WITHDRAWN):
        plan_training(open_hub, quick(cohort_of(hub)[:12]))


def source(name: str, *licences: str, noncommercial: bool = False) -> SourceSettings:
    return SourceSettings(Path(name), name, licences=licences, noncommercial=noncommercial)


def test_terms_that_go_together() -> None:
    check_terms([source("a", "Apache-2.0"), source("b", "CC-BY-NC-ND-4.0", noncommercial=True)])
    check_terms([source("a", "CC-BY-SA-4.0"), source("b", "CC-BY-SA-3.0")])
    check_terms([source("a", "CC-BY-NC-SA-4.0", noncommercial=True), source("b", "CC0-1.0")])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (source("a", "CC-BY-SA-4.0"), source("b", "CC-BY-NC-4.0", noncommercial=True)),
        (source("a", "CC-BY-SA-4.0"), source("b", "CC-BY-NC-SA-4.0", noncommercial=True)),
        (source("a", "GPL-3.0"), source("b", "CC-BY-SA-4.0")),
        (source("a", "ODbL-1.0"), source("b", "unknown", noncommercial=True)),
    ],
)
def test_terms_that_do_not(first: SourceSettings, second: SourceSettings) -> None:
    with pytest.raises(SettingsError, match="cannot keep"):
        check_terms([first, second])
