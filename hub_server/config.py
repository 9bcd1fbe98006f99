"""What ``hub.toml`` holds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from hub_server.intake_settings import IntakeSettings
from hub_server.registry.accounts import AccountSettings
from hub_server.registry.jobs import LeaseSettings
from hub_server.require_table import read_requirements
from hub_server.uploads.settings import UploadSettings
from pixcell_share.bundles import Requirement, check_name
from pixcell_share.errors import SettingsError

T = TypeVar("T")
_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?/?", re.ASCII)
"""An address without a path: names in ASCII (IDNA), IPv4, or IPv6 in brackets."""


@dataclass(frozen=True, kw_only=True)
class OidcSettings:
    """The table ``[oidc]``: log in with an identity provider."""

    issuer: str = ""
    """Its https address, below which ``.well-known/openid-configuration`` lies; empty: none."""
    client_id: str = ""
    client_secret_file: str = ""
    """A file of mode 0600 with the secret, so that hub.toml holds none."""
    label: str = "Log in with your institution"
    """What the button says."""

    def __post_init__(self) -> None:
        if self.issuer and not self.issuer.startswith("https://"):
            raise SettingsError("oidc.issuer is no https address", "mend it in hub.toml")
        if self.issuer and not (self.client_id and self.client_secret_file):
            raise SettingsError(
                "oidc.issuer is set without client_id and client_secret_file",
                "write all three into hub.toml, or none",
            )


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """The table ``[jobs]``: where training and evaluation run."""

    executor: str = "local"
    """``local`` or ``slurm``."""
    workers: int = 1
    """Jobs at once on this machine."""
    lease_seconds: float = 60.0
    """How long a silent worker is believed in."""
    attempts: int = 3
    """How often a job is tried whose worker died."""
    slurm: Mapping[str, str | int] | None = None
    """Parameters of submitit's ``SlurmExecutor``, such as ``slurm_partition``."""

    def __post_init__(self) -> None:
        if self.executor not in ("local", "slurm"):
            raise SettingsError(
                f"jobs.executor = {self.executor!r} is neither local nor slurm",
                "mend it in hub.toml",
            )
        for name in ("workers", "lease_seconds", "attempts"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"jobs.{name} must be more than 0", "mend it in hub.toml")

    @property
    def lease(self) -> LeaseSettings:
        """As the queue wants it."""
        return LeaseSettings(self.lease_seconds, self.attempts)


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """All settings of a hub; the defaults where the file is silent."""

    name: str = "hub"
    """Its public label."""
    url: str = "https://localhost:8443"
    """Where sites and browsers reach it."""
    database: str = ""
    """SQLAlchemy URL; empty: ``hub.db`` in the home folder."""
    storage: str = ""
    """Folder or URL, see `hub_server.storage`; empty: ``files`` in the home folder."""
    require: tuple[Requirement, ...] = ()
    """What every bundle must keep, from the table ``[require]``."""
    uploads: UploadSettings = UploadSettings()
    intake: IntakeSettings = IntakeSettings()
    accounts: AccountSettings = AccountSettings()
    oidc: OidcSettings = OidcSettings()
    jobs: JobSettings = JobSettings()

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not _URL.fullmatch(self.url):
            raise SettingsError(
                f"url = {self.url!r} is no address of a hub",
                'write url = "https://hub.example.org:8443" into hub.toml',
            )


_TABLES: dict[str, type[Any]] = {
    "uploads": UploadSettings,
    "intake": IntakeSettings,
    "accounts": AccountSettings,
    "oidc": OidcSettings,
    "jobs": JobSettings,
}
_TEXTS = ("name", "url", "database", "storage")


def read_config(path: Path) -> HubConfig:
    """The settings in ``hub.toml``; the defaults if there is no such file.

    Raises:
        SettingsError: it cannot be read, is no TOML, or an entry is unknown or wrong.
    """
    values = _read_toml(path) if path.exists() else {}
    _refuse_unknown(path, "", values, {*_TEXTS, *_TABLES, "require"})
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in _TABLES:
            found[name] = _read_table(path, name, value, _TABLES[name])
        elif name == "require":
            found[name] = read_requirements(path, value)
        else:
            found[name] = _typed(path, name, value, "")
    return HubConfig(**found)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path.name} cannot be read: {error}", "mend the file") from error


def _read_table(path: Path, table: str, values: Any, kind: type[T]) -> T:
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name}: {table} is not a table", f"write [{table}]")
    defaults = {field.name: field.default for field in fields(cast(Any, kind))}
    _refuse_unknown(path, f"{table}.", values, set(defaults))
    return kind(
        **{
            name: _typed(path, f"{table}.{name}", value, defaults[name])
            for name, value in values.items()
        }
    )


def _typed(path: Path, name: str, value: Any, default: Any) -> Any:
    """``value`` if it is of the kind of ``default``; a whole number will do for any number."""
    kind = dict if default is None else type(default)
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(
            f"{path.name}: {name} = {value!r} is not of the kind of {default!r}", "mend the file"
        )
    return value


def _refuse_unknown(path: Path, prefix: str, values: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(values.keys() - known):
        raise SettingsError(
            f"{path.name} has an unknown entry: {prefix}{unknown[0]}",
            f"known here: {', '.join(sorted(known))}",
        )
