"""The hub's home: what `init` makes, what hub.toml may say, and what the doctor finds."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import hub_server.log
import hub_server.registry
from hub_server import doctor, tls
from hub_server.config import HubConfig, JobSettings, OidcSettings, read_config
from hub_server.home import HubHome
from hub_server.policy import read_policy
from hub_server.registry import sites
from pixcell_share.bundles import Requirement, load_public_key
from pixcell_share.errors import DatabaseError, KeyFileError, SettingsError


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_init_makes_all_that_a_hub_needs(hub_home: HubHome) -> None:
    key = hub_home.load_key()
    assert load_public_key(hub_home.public_key).key_id == key.key_id
    assert mode(hub_home.private_key) == mode(hub_home.certificate_key) == 0o600
    for folder in (hub_home.folder, hub_home.uploads, hub_home.quarantine, hub_home.log_folder):
        assert mode(folder) == 0o700
    config = hub_home.config()
    assert (config.name, config.url) == ("Hub of the tests", "https://localhost:8443")
    registry = hub_home.registry()
    assert registry.is_current()
    with registry.session() as session:
        sites.invite(session, "Köln")
    assert hub_home.log().append("x", actor="hub", subject="s").sequence == 1
    hub_home.storage().put("a/b", b"c")
    assert (hub_home.folder / "files" / "a" / "b").read_bytes() == b"c"


def test_a_key_is_never_overwritten(hub_home: HubHome) -> None:
    before = hub_home.private_key.read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        hub_home.initialise()
    assert hub_home.private_key.read_bytes() == before


def test_an_init_that_failed_can_be_done_again(tmp_path: Path) -> None:
    home = HubHome(tmp_path / "hub")
    home.folder.mkdir()
    (home.folder / "hub.db").mkdir()
    with pytest.raises(DatabaseError, match="unable to open"):
        home.initialise()
    assert not home.private_key.exists()
    (home.folder / "hub.db").rmdir()
    home.initialise("Second try")
    assert home.registry().is_current()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("<hub>", "https://hub"),
        ('"', "https://hub"),
        ("hub", "ftp://hub"),
        ("hub", "hub.example.org"),
        ("hub", 'https://hub"\nname = "x'),
        ("hub", "https://user@hub"),
        ("hub", "https://hub/below"),
        ("hub", "https://"),
    ],
)
def test_a_name_or_an_address_that_cannot_be_is_refused_first(
    tmp_path: Path, name: str, url: str
) -> None:
    with pytest.raises(SettingsError):
        HubHome(tmp_path / "hub").initialise(name, url)
    assert not (tmp_path / "hub").exists()


def test_the_folder_is_given_or_of_the_environment_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIXCELL_HUB_HOME", raising=False)
    assert HubHome.locate().folder == Path.home() / ".pixcell-hub"
    monkeypatch.setenv("PIXCELL_HUB_HOME", str(tmp_path))
    assert HubHome.locate().folder == tmp_path
    assert HubHome.locate(Path("other")).folder == Path("other")


@pytest.mark.parametrize("host", ["hub.example.org", "192.0.2.7", "[2001:db8::7]"])
def test_the_certificate_is_for_its_address_and_this_machine(tmp_path: Path, host: str) -> None:
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    url = f"https://{host}:8443"
    tls.write_certificate(certificate, key, url)
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    plain = host.strip("[]")
    assert plain in [*names.get_values_for_type(x509.DNSName), *map(str, _addresses(names))]
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert ipaddress.ip_address("::1") in _addresses(names)
    public = read.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert tls.covers(certificate, url)
    assert tls.covers(certificate, "https://localhost")
    assert not tls.covers(certificate, "https://other.example.org")
    assert tls.ends_at(certificate) > datetime.now(UTC) + timedelta(days=300)
    assert tls.fingerprint(certificate) == read.fingerprint(read.signature_hash_algorithm).hex()
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    ssl.create_default_context(cafile=certificate)


def _addresses(names: x509.SubjectAlternativeName) -> list[object]:
    return list(names.get_values_for_type(x509.IPAddress))


def test_a_lost_certificate_is_made_again_and_an_own_one_is_kept(hub_home: HubHome) -> None:
    before = hub_home.certificate.read_bytes()
    hub_home.ensure_certificate(hub_home.config())
    assert hub_home.certificate.read_bytes() == before
    hub_home.certificate_key.unlink()
    hub_home.ensure_certificate(hub_home.config())
    assert hub_home.certificate.read_bytes() != before


FULL = """
name = "Köln hub"
url = "https://hub.example.org/"
database = "postgresql://pixcell@db/pixcell"
storage = "s3://bucket/prefix"
[require]
"patient_linkage.residual_high" = "<=0.1"
[uploads]
site_bytes = 1_000
expire_s = 60
[accounts]
session_hours = 1
[oidc]
issuer = "https://login.example.org"
client_id = "hub"
client_secret_file = "/secret"
[jobs]
executor = "slurm"
[jobs.slurm]
slurm_partition = "gpu"
slurm_time = 60
"""


def test_hub_toml_says_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(FULL)
    config = read_config(path)
    assert config.require == (Requirement.parse("patient_linkage.residual_high<=0.1"),)
    assert (config.uploads.site_bytes, config.uploads.expire_s) == (1000, 60)
    assert config.accounts.session_hours == 1
    assert config.oidc.issuer == "https://login.example.org"
    assert config.jobs.slurm == {"slurm_partition": "gpu", "slurm_time": 60}
    assert config.jobs.lease.attempts == JobSettings().attempts
    assert read_policy(path) == config.require


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none.toml") == HubConfig()


def test_the_file_of_a_new_hub_can_be_filled_in(hub_home: HubHome) -> None:
    """What stands in it as a comment is what one may write."""
    lines = hub_home.config_file.read_text().splitlines()
    entries = [line.removeprefix("# ") for line in lines if "=" in line or line.startswith("# [")]
    hub_home.config_file.write_text("\n".join(entries))
    config = hub_home.config()
    assert config.database.startswith("postgresql://")
    assert config.storage.startswith("s3://")
    assert config.oidc.issuer.startswith("https://")
    assert config.jobs.executor == "slurm"
    assert config.require


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae = 'x'", "unknown entry: nmae"),
        ("[uploads]\nsite_byte = 1", "unknown entry: uploads.site_byte"),
        ("[tls]\nx = 1", "unknown entry: tls"),
        ("name = 7", "name = 7 is not"),
        ("[accounts]\nsession_hours = true", "accounts.session_hours = True"),
        ("[accounts]\nsession_hours = '1'", "accounts.session_hours = '1'"),
        ("[accounts]\nargon2_time = 1.5", "accounts.argon2_time = 1.5"),
        ("jobs = 1", "jobs is not a table"),
        ("[jobs]\nexecutor = 'cloud'", "neither local nor slurm"),
        ("[jobs]\nworkers = 0", "jobs.workers must be more than 0"),
        ("[jobs]\nslurm = 'gpu'", "jobs.slurm = 'gpu'"),
        ("[oidc]\nissuer = 'http://x'", "no https address"),
        ("[oidc]\nissuer = 'https://x'", "without client_id"),
        ("[require]\n", "no table"),
        ("url = 'x'", "no address"),
        ("name = ", "cannot be read"),
    ],
)
def test_what_is_wrong_in_hub_toml_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        read_config(path)


def test_a_policy_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file"):
        read_policy(tmp_path / "hub.toml")
    assert OidcSettings().issuer == ""


def findings(home: HubHome) -> dict[str, str]:
    return {check.name: check.status for check in doctor.examine(home)}


def test_the_doctor_finds_a_new_hub_well(hub_home: HubHome) -> None:
    hub_home.log().append("x", actor="hub", subject="s")
    found = findings(hub_home)
    names = "settings folder key certificate database storage log disk oidc jobs"
    assert found == dict.fromkeys(names.split(), "ok")
    assert list(hub_home.storage().list("doctor")) == []


def write(home: HubHome, text: str) -> None:
    home.config_file.write_text(text)


def ruin_settings(home: HubHome) -> None:
    write(home, "x = 1")


def ruin_key(home: HubHome) -> None:
    home.private_key.chmod(0o644)


def ruin_certificate(home: HubHome) -> None:
    write(home, 'url = "https://elsewhere.example.org"')


def lose_certificate(home: HubHome) -> None:
    home.certificate.unlink()


def ruin_database(home: HubHome) -> None:
    (home.folder / "hub.db").unlink()


def ruin_storage(home: HubHome) -> None:
    (home.folder / "taken").write_text("a file")
    write(home, f"storage = {json.dumps(str(home.folder / 'taken'))}")


def ruin_log(home: HubHome) -> None:
    home.log().append("x", actor="hub", subject="s")
    (home.log_folder / "acts.jsonl").write_text("")


def open_folder(home: HubHome) -> None:
    home.folder.chmod(0o750)


def ruin_disk(home: HubHome) -> None:
    write(home, f"[uploads]\ndisk_floor_bytes = {1 << 62}")


def ruin_oidc(home: HubHome) -> None:
    secret = home.folder / "secret"
    secret.write_text("s")
    secret.chmod(0o644)
    told = {"issuer": "https://x", "client_id": "y", "client_secret_file": str(secret)}
    write(home, "[oidc]\n" + "\n".join(f"{name} = {json.dumps(v)}" for name, v in told.items()))


def ruin_jobs(home: HubHome) -> None:
    write(home, '[jobs]\nexecutor = "slurm"')


@pytest.mark.parametrize(
    ("ruin", "name"),
    [
        (open_folder, "folder"),
        (ruin_settings, "settings"),
        (ruin_key, "key"),
        (ruin_certificate, "certificate"),
        (lose_certificate, "certificate"),
        (ruin_database, "database"),
        (ruin_storage, "storage"),
        (ruin_log, "log"),
        (ruin_disk, "disk"),
        (ruin_oidc, "oidc"),
        (ruin_jobs, "jobs"),
    ],
)
def test_the_doctor_names_what_is_wrong(
    hub_home: HubHome, monkeypatch: pytest.MonkeyPatch, ruin: object, name: str
) -> None:
    monkeypatch.setenv("PATH", os.devnull)  # no sbatch, whatever this machine has
    ruin(hub_home)
    (wrong,) = [check for check in doctor.examine(hub_home) if check.name == name]
    assert wrong.status == ("warn" if name == "folder" else "fail")
    assert wrong.detail
    assert wrong.remedy


def test_exports_are_pinned() -> None:
    assert hub_server.log.__all__ == [
        "Act",
        "ActFilter",
        "Checkpoint",
        "ConsistencyProof",
        "FoundActs",
        "HubLog",
        "InclusionProof",
        "VerifiedLog",
        "history",
        "prove_consistency",
        "prove_inclusion",
        "read_checkpoint",
        "read_proof",
        "search",
        "verify_log",
    ]
    assert hub_server.registry.__all__ == [
        "Account",
        "Cohort",
        "CohortState",
        "DatabaseSettings",
        "Encoder",
        "EncoderSource",
        "Evaluation",
        "Job",
        "JobKind",
        "JobState",
        "KeyState",
        "Registry",
        "Role",
        "Site",
        "SiteKeyRow",
        "SiteState",
        "SourceRole",
        "sqlite_url",
    ]
