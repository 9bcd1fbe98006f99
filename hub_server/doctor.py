"""`pixcell-hub doctor`: say beforehand what would fail, each finding with its remedy."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub_server import tls
from hub_server.config import HubConfig
from hub_server.home import HubHome
from hub_server.log import verify_log
from hub_server.registry import DatabaseSettings
from pixcell_share.bundles import load_public_key
from pixcell_share.checks import Check, Status, fail, ok, warn
from pixcell_share.errors import PixcellError
from pixcell_share.wire.fingerprints import readable

_HASTY = DatabaseSettings(patience_s=5.0, busy_s=5.0)
_SOON = timedelta(days=30)
_PROBE = "doctor/probe"


def examine(home: HubHome) -> list[Check]:
    """Look at everything that a hub needs; nothing is changed but a file written and deleted."""
    try:
        config = home.config()
    except PixcellError as error:
        return [fail("settings", error.cause, error.remedy)]
    parts: dict[str, Callable[[HubHome, HubConfig], Check]] = {
        "folder": _folder,
        "key": _key,
        "certificate": _certificate,
        "database": _database,
        "storage": _storage,
        "log": _log,
        "disk": _disk,
        "oidc": _oidc,
        "jobs": _jobs,
    }
    return [ok("settings", f"{config.name} at {config.url}"), *_each(parts, home, config)]


def _each(
    parts: dict[str, Callable[[HubHome, HubConfig], Check]], home: HubHome, config: HubConfig
) -> Iterator[Check]:
    for name, look in parts.items():
        try:
            yield look(home, config)
        except PixcellError as error:
            yield fail(name, error.cause, error.remedy)
        except OSError as error:
            where = error.filename or name
            yield fail(name, f"{where}: {error.strerror}", "check the path and its owner")


def _folder(home: HubHome, _config: HubConfig) -> Check:
    mode = stat.S_IMODE(home.folder.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        remedy = f"run `chmod 700 {home.folder}`: others can read the database and the uploads"
        return warn("folder", f"{home.folder} has mode {mode:04o}", remedy)
    return ok("folder", str(home.folder))


def _key(home: HubHome, _config: HubConfig) -> Check:
    return ok("key", readable(home.load_key().key_id))


def _certificate(home: HubHome, config: HubConfig) -> Check:
    left = tls.ends_at(home.certificate) - datetime.now(UTC)
    renew = "delete it and start the hub again, or put one of an authority in its place"
    if not tls.covers(home.certificate, config.url):
        return fail("certificate", f"was not made for {config.url}", renew)
    status: Status = "ok" if left > _SOON else "warn"
    if left < timedelta(0):
        status = "fail"
    detail = f"ends in {left.days} days, SHA-256 {tls.fingerprint(home.certificate)[:16]}…"
    return Check("certificate", status, detail, "" if status == "ok" else renew)


def _database(home: HubHome, config: HubConfig) -> Check:
    registry = home.registry(config, _HASTY)
    try:
        current = registry.is_current()
    finally:
        registry.close()
    where = registry.url.render_as_string(hide_password=True)
    if not current:
        return fail("database", f"{where} has older tables", "start the hub: it mends them")
    return ok("database", where)


def _storage(home: HubHome, config: HubConfig) -> Check:
    storage = home.storage(config)
    storage.put(_PROBE, b"probe")
    with storage.get(_PROBE) as stream:
        same = stream.read() == b"probe"
    storage.delete(_PROBE)
    where = config.storage or str(home.folder / "files")
    if not same:
        return fail("storage", f"{where} gives back other bytes", "do not use it")
    return ok("storage", where)


def _log(home: HubHome, _config: HubConfig) -> Check:
    home.load_key()
    if not (home.log_folder / "checkpoint").exists() and not any(home.log_folder.glob("acts*")):
        return ok("log", "no acts yet")
    found = verify_log(home.log_folder, load_public_key(home.public_key)).checkpoint
    return ok("log", f"{found.size} acts, root {found.root.hex()[:16]}…")


def _disk(home: HubHome, config: HubConfig) -> Check:
    free, floor = shutil.disk_usage(home.folder).free, config.uploads.disk_floor_bytes
    detail = f"{free / 1e9:.1f} GB free at {home.folder}"
    if free < floor:
        remedy = f"free some: below {floor / 1e9:.1f} GB no upload is taken"
        return fail("disk", detail, remedy)
    return ok("disk", detail)


def _oidc(_home: HubHome, config: HubConfig) -> Check:
    if not config.oidc.issuer:
        return ok("oidc", "not used: people log in by password")
    secret = Path(config.oidc.client_secret_file)
    if secret.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return fail("oidc", f"{secret} is readable by others", f"run `chmod 600 {secret}`")
    return ok("oidc", config.oidc.issuer)


def _jobs(_home: HubHome, config: HubConfig) -> Check:
    if config.jobs.executor == "slurm" and shutil.which("sbatch") is None:
        remedy = "install Slurm's client here, or set jobs.executor to local"
        return fail("jobs", "there is no `sbatch` on this machine", remedy)
    return ok("jobs", config.jobs.executor)
