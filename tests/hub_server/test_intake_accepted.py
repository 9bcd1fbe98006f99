"""What becomes of a good bundle: canonical arrays, a signed summary, a log, and its withdrawal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.signer import SSlibKey

from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.intake import (
    IntakeOutcome,
    Reason,
    check_stored_files,
    check_summary,
    intake_folder,
    intake_upload,
    open_shards,
    withdraw,
)
from hub_server.intake.summary import PREDICATE
from hub_server.registry import Cohort, CohortState
from hub_server.storage import open_storage
from pixcell_share.bundles import SiteKey, bundle_digest
from pixcell_share.errors import DigestError, SignatureError, StateError
from tests.bundles.forging import make_tiles, sign_anew, write_shard
from tests.bundles.hostile_corpus.good import write_good
from tests.bundles.hostile_corpus.keys import SITES, make_key
from tests.bundles.hostile_corpus.laying import CORPUS, GOOD
from tests.hub_server.attacked_hub import FLOOR, make_hub, send


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    return make_hub(tmp_path_factory.mktemp("pristine") / "hub")


@pytest.fixture
def hub(pristine: HubHome, tmp_path: Path) -> HubHome:
    return HubHome(Path(shutil.copytree(pristine.folder, tmp_path / "hub")))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Three shards of different sizes."""
    tiles = list(make_tiles(14, seed=4))
    return write_good(tmp_path / "bundle", make_key("member"), tiles=tiles, shard_bytes=85_000)


def row_of(hub: HubHome, digest: str) -> Cohort:
    registry = hub.registry()
    with registry.reading() as session:
        row = session.get_one(Cohort, digest)
    registry.close()
    return row


def acts(hub: HubHome) -> list[str]:
    return [act.act for act in reversed(hub.log().latest(100))]


def pixels_of(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for path in sorted(bundle.glob("*.h5")):
        with h5py.File(path) as file:
            images.append(file["images"][:])
            labels.append(file["labels"][:])
    return np.concatenate(images), np.concatenate(labels)


def test_the_canonical_form_has_the_same_tiles(hub: HubHome, bundle: Path) -> None:
    outcome = intake_folder(hub, bundle)
    assert outcome == IntakeOutcome(bundle_digest(bundle), CohortState.ACCEPTED)
    row = row_of(hub, outcome.cohort)
    shards = list(open_shards(hub.storage(), row.canonical or {}))
    images, labels = pixels_of(bundle)
    assert len(shards) == len(list(bundle.glob("*.h5"))) > 1
    np.testing.assert_array_equal(np.concatenate([s.images for s in shards]), images)
    np.testing.assert_array_equal(np.concatenate([s.labels for s in shards]), labels)
    assert row.counts == {"normal": 7, "tumour": 7}
    assert row.noncommercial
    assert row.key_id == make_key("member").key_id
    assert row.manifest is not None
    assert row.manifest["predicate"]["site"]["name"] == SITES["member"]
    assert sorted(path.name for path in bundle.iterdir())[0] == "audit.dsse.json", "left as it was"


def test_the_canonical_files_are_plain_arrays(hub: HubHome, bundle: Path) -> None:
    digest = intake_folder(hub, bundle).cohort
    for path in (hub.folder / "files" / "cohorts" / digest).iterdir():
        array = np.load(path, allow_pickle=False)
        assert array.dtype == (np.uint8 if path.name.startswith("images") else np.dtype("<i8"))
        assert path.stat().st_size == 128 + array.nbytes


def test_compressed_shards_of_other_writers_come_out_the_same(hub: HubHome, tmp_path: Path) -> None:
    key = make_key("member")
    bundle = write_good(tmp_path / "plain", key)
    images, _ = pixels_of(bundle)
    write_shard(
        bundle / "shard-00000.h5",
        images={"chunks": (4, 32, 32, 3), "compression": "gzip", "shuffle": True},
        count=6,
    )
    sign_anew(bundle, key)
    row = row_of(hub, intake_folder(hub, bundle).cohort)
    (shard,) = open_shards(hub.storage(), row.canonical or {})
    np.testing.assert_array_equal(shard.images, images)


def test_open_shards_of_a_storage_elsewhere(hub: HubHome, bundle: Path) -> None:
    row = row_of(hub, intake_folder(hub, bundle).cohort)
    away, here = open_storage("memory:///"), hub.storage()
    for file in (row.canonical or {})["files"]:
        with here.get(file["key"]) as stream:
            away.put(file["key"], stream.read())
    images = [shard.images for shard in open_shards(away, row.canonical or {})]
    np.testing.assert_array_equal(np.concatenate(images), pixels_of(bundle)[0])


def test_the_summary_is_checked_without_the_hub(hub: HubHome, bundle: Path, tmp_path: Path) -> None:
    digest = intake_folder(hub, bundle).cohort
    document = json.loads(json.dumps(row_of(hub, digest).summary))
    key = hub.load_key()
    summary = check_summary(document, key.public)
    assert summary.bundle == digest
    assert summary.findings["signed_by"] == make_key("member").key_id
    assert summary.findings["required"] == ["patient_linkage.residual_high<=0.1"]
    assert summary.findings["pictures"]["tiles"] == 14
    assert "PIXCELL_SHARE_WRITTEN_ANEW" in summary.properties
    check_stored_files(summary, hub.storage())
    with pytest.raises(SignatureError):
        check_summary(document, SiteKey.create(tmp_path / "other.key").public)
    victim = next((hub.folder / "files" / "cohorts" / digest).glob("images-*"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DigestError, match=victim.name):
        check_stored_files(summary, hub.storage())


def test_the_summary_is_an_svr_that_others_verify(hub: HubHome, bundle: Path) -> None:
    row, key = row_of(hub, intake_folder(hub, bundle).cohort), hub.load_key()
    envelope = OtherEnvelope.from_dict(json.loads(json.dumps(row.summary)))
    public = key.public._key.public_bytes_raw().hex()
    other = SSlibKey(key.key_id, "ed25519", "ed25519", {"public": public})
    assert envelope.verify([other], threshold=1)
    statement = json.loads(envelope.payload)
    assert statement["predicateType"] == PREDICATE
    assert {"verifier", "timeCreated", "properties"} <= statement["predicate"].keys()


def test_every_transition_is_in_the_log(hub: HubHome, bundle: Path) -> None:
    digest = intake_folder(hub, bundle).cohort
    withdraw(hub, digest[:12], actor="account:anna", reason="a patient asked")
    steps = ["uploaded", "quarantined", "verified", "accepted", "withdrawn"]
    assert acts(hub) == [f"cohort.{step}" for step in steps]


def test_an_upload_is_moved_and_ends_the_same_when_its_job_runs_twice(
    hub: HubHome, bundle: Path
) -> None:
    digest = bundle_digest(bundle)
    assert send(hub, bundle, SITES["member"]).accepted
    site = row_of(hub, digest).site_id
    settings = {"cohort": digest, "upload": digest[:32], "site": site}
    assert intake_upload(hub, settings).accepted
    assert not (hub.uploads / digest[:32] / "bundle").exists()


def test_a_withdrawn_cohort_leaves_a_tombstone_and_no_tile(hub: HubHome, bundle: Path) -> None:
    digest = intake_folder(hub, bundle).cohort
    withdrawal = withdraw(hub, digest, actor="site:Uniklinik Köln", reason="a patient asked")
    assert withdrawal.cohort.withdrawn_reason == "a patient asked"
    assert not list(hub.storage().list("cohorts"))
    row = row_of(hub, digest)
    assert (row.state, row.canonical) == (CohortState.WITHDRAWN, None)
    assert row.manifest is not None
    again = withdraw(hub, digest, actor="operator", reason="again")
    assert again.cohort.withdrawn_by == "site:Uniklinik Köln", "the first word counts"


@pytest.mark.parametrize(
    ("sender", "tiles", "reason"),
    [
        ("member", slice(None, None, -1), Reason.PICTURES_WITHDRAWN),
        ("member", slice(1, None), None),  # one was taken out: the rest may come
        ("other", slice(5), Reason.PICTURES_WITHDRAWN),
    ],
    ids=["all again", "without one", "of another site"],
)
def test_tiles_of_a_withdrawn_cohort_are_known_again(
    hub: HubHome, bundle: Path, tmp_path: Path, sender: str, tiles: slice, reason: Reason | None
) -> None:
    withdraw(hub, intake_folder(hub, bundle).cohort, actor="operator", reason="a patient asked")
    some, more = list(make_tiles(14, seed=4))[tiles], list(make_tiles(2, seed=5))
    key, site = make_key(sender), SITES[sender]
    anew = write_good(tmp_path / "anew", key, tiles=some + more, site=site)
    outcome = intake_folder(hub, anew)
    assert outcome.reason == reason, outcome


def test_what_a_revoked_key_signed_is_refused_and_what_was_accepted_stays(
    hub: HubHome, bundle: Path, tmp_path: Path
) -> None:
    before, site = intake_folder(hub, bundle).cohort, SITES["member"]
    signed = write_good(tmp_path / "signed before", make_key("member"), seed=8)
    with Acts.opened(hub, "operator") as done:
        done.revoke_key(site, make_key("member").key_id, "a laptop was stolen")
    assert intake_folder(hub, signed).reason is Reason.KEY_REVOKED
    assert send(hub, signed, site).reason is Reason.KEY_REVOKED
    assert row_of(hub, before).state is CohortState.ACCEPTED
    (act,) = [act for act in hub.log().latest(10) if act.act == "site.revoke_key"]
    assert (act.subject, act.details["key"]) == (site, make_key("member").key_id)


def test_a_rejected_bundle_cannot_be_withdrawn(hub: HubHome, tmp_path: Path) -> None:
    tiles = [(image // 128, label) for image, label in make_tiles(6)]
    bundle = write_good(tmp_path / "dark", make_key("member"), tiles=tiles)
    digest = intake_folder(hub, bundle).cohort
    with pytest.raises(StateError, match="was rejected"):
        withdraw(hub, digest, actor="operator", reason="x")


def test_a_rejected_bundle_may_come_again(hub: HubHome, bundle: Path) -> None:
    """The reason may have been the hub's: here a requirement that the operator then lifts."""
    strict = hub.config_file.read_text()
    hub.config_file.write_text(strict.replace("<=0.1", "<=0.01"))
    assert intake_folder(hub, bundle).reason is Reason.REQUIREMENT_NOT_MET
    hub.config_file.write_text(strict)
    assert intake_folder(hub, bundle).accepted


@pytest.mark.parametrize("limit", ["site_bytes = 1000", "files = 3", "[intake]\ntiles = 13"])
def test_a_bundle_over_the_quota(hub: HubHome, bundle: Path, limit: str) -> None:
    text = hub.config_file.read_text()
    hub.config_file.write_text(text.replace(FLOOR, f"{FLOOR}{limit}\n"))
    assert intake_folder(hub, bundle).reason is Reason.OVER_QUOTA


def test_a_folder_that_is_none(hub: HubHome, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", CORPUS / GOOD / "card.md"):
        outcome = intake_folder(hub, path)
        assert (outcome.reason, outcome.cohort) == (Reason.NOT_A_FOLDER, "")


def test_two_processes_do_not_take_in_the_same_bundle(hub: HubHome, bundle: Path) -> None:
    from hub_server.intake.quarantine import Quarantine

    with (
        Quarantine(hub.quarantine).locked(bundle_digest(bundle)),
        pytest.raises(StateError, match="another process"),
    ):
        intake_folder(hub, bundle)
    assert intake_folder(hub, bundle).accepted


NO_H5PY = """
import sys
sys.modules["h5py"] = None  # importing it fails now
from pathlib import Path
from hub_server.home import HubHome
from hub_server.intake import intake_folder
print(intake_folder(HubHome(Path(sys.argv[1])), Path(sys.argv[2])).state)
assert not any(name.startswith("h5py") and module for name, module in sys.modules.items())
"""


def test_the_hub_takes_in_without_h5py_in_its_process(hub: HubHome, bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_H5PY, str(hub.folder), str(bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "accepted", done.stderr
