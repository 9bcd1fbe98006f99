"""The hub's home folder.

The folder is ``--home``, else ``$PIXCELL_HUB_HOME``, else ``~/.pixcell-hub``::

    hub.toml      its name, its address, and what it asks of sites
    hub.key       Ed25519 private key (PEM, mode 0600): signs the log and what the hub accepts
    hub.pub       its public half
    hub.db        the registry, unless hub.toml names another database
    files/        accepted cohorts and encoders, unless hub.toml names another storage
    uploads/      bundles on their way
    quarantine/   bundles that are being looked at
    jobs/         what training and evaluation write
    log/          every act, chained and signed
    tls/          certificate and key of the server
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hub_server import tls
from hub_server.config import HubConfig, read_config
from hub_server.log import HubLog
from hub_server.registry import DatabaseSettings, Registry, sqlite_url
from hub_server.storage import Storage, open_storage
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import KeyFileError
from pixcell_share.files import atomic_write_text, storage_errors

_FOLDERS = ("uploads", "quarantine", "jobs", "log", "tls")
_PATIENT = DatabaseSettings()
_TEMPLATE = """\
# The public label of this hub.
name = "{name}"
# Where sites and browsers reach it.
url = "{url}"

# What is left out keeps its default; docs/hub.md lists all entries.
# database = "postgresql://pixcell@db.example.org/pixcell"  # hub.db beside this file
# storage = "s3://bucket/prefix"                            # files/ beside this file

# What every bundle must keep, beyond its site's own limits.
# [require]
# "patient_linkage.residual_high" = "<=0.1"

# [uploads]
# site_bytes = 500_000_000_000

# [accounts]
# session_hours = 12

# [oidc]
# issuer = "https://login.example.org"
# client_id = "pixcell-hub"
# client_secret_file = "/etc/pixcell/oidc-secret"

# [jobs]
# executor = "slurm"
"""


@dataclass(frozen=True)
class HubHome:
    """The folder that holds all of a hub."""

    folder: Path

    @classmethod
    def locate(cls, given: Path | None = None) -> HubHome:
        """``given``, else ``$PIXCELL_HUB_HOME``, else ``~/.pixcell-hub``."""
        fallback = os.environ.get("PIXCELL_HUB_HOME") or Path.home() / ".pixcell-hub"
        return cls(Path(given or fallback))

    @property
    def private_key(self) -> Path:
        """Where the private key lies."""
        return self.folder / "hub.key"

    @property
    def public_key(self) -> Path:
        """Where the public key lies."""
        return self.folder / "hub.pub"

    @property
    def config_file(self) -> Path:
        """Where the settings lie."""
        return self.folder / "hub.toml"

    @property
    def uploads(self) -> Path:
        """Bundles on their way."""
        return self.folder / "uploads"

    @property
    def quarantine(self) -> Path:
        """Bundles that are being looked at."""
        return self.folder / "quarantine"

    @property
    def jobs(self) -> Path:
        """What jobs write while they run, a folder each."""
        return self.folder / "jobs"

    @property
    def log_folder(self) -> Path:
        """The log of acts."""
        return self.folder / "log"

    @property
    def certificate(self) -> Path:
        """The server's certificate in PEM."""
        return self.folder / "tls" / "server.crt"

    @property
    def certificate_key(self) -> Path:
        """The private key of `certificate`."""
        return self.folder / "tls" / "server.key"

    def initialise(self, name: str = "hub", url: str = HubConfig.url) -> SiteKey:
        """Make the key, the settings, the certificate, and the tables.

        The key comes last: while there is none, what failed can be tried again.

        Args:
            name: the public label of the hub.
            url: where it will be reached.

        Raises:
            SettingsError: ``name`` or ``url`` cannot be used.
            KeyFileError: there is a key already; it is never overwritten.
            DatabaseError: the database does not answer.
            StorageError: the folder cannot be written.
        """
        HubConfig(name=name, url=url)
        if self.private_key.exists():
            raise KeyFileError(
                f"{self.private_key} exists already",
                "keep it: sites know the hub by it; use --home for a second hub",
            )
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in _FOLDERS:
                (self.folder / folder).mkdir(exist_ok=True, mode=0o700)
        if not self.config_file.exists():
            atomic_write_text(self.config_file, _TEMPLATE.format(name=name, url=url))
        config = self.config()
        self.ensure_certificate(config)
        registry = self.registry(config)
        registry.upgrade()
        registry.close()
        key = SiteKey.create(self.private_key)
        atomic_write_text(self.public_key, key.public_pem.decode())
        return key

    def ensure_certificate(self, config: HubConfig) -> None:
        """Make a certificate if there is none; an operator's own is never touched.

        Raises:
            StorageError: the folder cannot be written.
        """
        if not (self.certificate.exists() and self.certificate_key.exists()):
            tls.write_certificate(self.certificate, self.certificate_key, config.url)

    def config(self) -> HubConfig:
        """The settings; the defaults where ``hub.toml`` is silent.

        Raises:
            SettingsError: the file is not TOML, or an entry is unknown or wrong.
        """
        return read_config(self.config_file)

    def load_key(self) -> SiteKey:
        """The hub's key.

        Raises:
            KeyFileError: there is none, or others can read it.
        """
        if not self.private_key.exists():
            raise KeyFileError(
                f"there is no hub in {self.folder}", "run `pixcell-hub init` to make one"
            )
        return SiteKey.load(self.private_key)

    def registry(
        self, config: HubConfig | None = None, settings: DatabaseSettings = _PATIENT
    ) -> Registry:
        """The hub's records.

        Raises:
            SettingsError: the database of the settings cannot be used.
        """
        config = config or self.config()
        return Registry(config.database or sqlite_url(self.folder / "hub.db"), settings)

    def log(self) -> HubLog:
        """The log of acts, signed with the hub's key.

        Raises:
            KeyFileError: there is no key, or others can read it.
        """
        return HubLog(self.log_folder, self.load_key())

    def storage(self, config: HubConfig | None = None) -> Storage:
        """Where accepted cohorts and encoders are kept.

        Raises:
            SettingsError: the storage of the settings cannot be used.
        """
        config = config or self.config()
        return open_storage(config.storage or str(self.folder / "files"))
