"""The site's home folder: its key pair and ``site.toml``.

The folder is ``--home``, else ``$PIXCELL_HOME``, else ``~/.pixcell-share``::

    site.key    Ed25519 private key (PEM, mode 0600): signs bundles and seeds tiles
    site.pub    its public half: what a hub needs to verify the site's bundles
    site.toml   the site's label and its limits for a release
    ledger.jsonl, ledger.head   which patients took part in which release, signed
    ledger.key  the site's first key, if it has another one now: the ledger stays with it
    site.key.next   a new key that the hub has not taken yet
    hub.json    the hub that the site joined
    outbox/     what was sent, and what the hub signed about it
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pixcell_share.bundles import SiteKey, check_name
from pixcell_share.errors import KeyFileError, SettingsError
from pixcell_share.files import atomic_write_text, storage_errors
from pixcell_share.privacy import GateLimits, NearCopySettings
from pixcell_share.privacy.ledger import Budget, Ledger, Mark
from site_agent.federation.policy import FederationPolicy

_TEMPLATE = """\
# The public label of this site. It is written into every bundle: do not use a
# name that says more than the consortium may know.
site = "{site}"

# A synthetic tile closer than this to any real tile is drawn again, then dropped.
# docs/privacy-officer.md says what the figures mean and how they were measured.
[near_copies]
# Correlation of 64 x 64 pictures with the nearest real tile, 0 to 1. Lower is stricter.
pixel_limit = {near.pixel_limit}
# Least cosine in the encoder. A run raises it to what its own real tiles reach.
embedding_limit = {near.embedding_limit}

# A release that passes one of these is refused. Stricter is always possible; a hub may demand
# stricter ones still. Entries that are left out keep these defaults.
[limits]
# Patients who condition the cohort, and patients of each class, at least.
patients = {limits.patients}
class_patients = {limits.class_patients}
# How often a synthetic tile leads back to its own source tile, beyond chance.
retrieval_excess = {limits.retrieval_excess}
# Patients linked to the cohort by other tiles of theirs, beyond what the control group shows.
linkage_residual = {limits.linkage_residual}
# Largest residual that may go unnoticed with so few patients; 1 allows small cohorts.
linkage_detectable = {limits.linkage_detectable}
# True positives at 1 % false positives, for weights trained on the site's own tiles.
membership_tpr = {limits.membership_tpr}

# What one patient may take part in, over all releases of this site (ledger.jsonl).
[budget]
# Sum over differentially private releases.
epsilon = {budget.epsilon:g}
delta = {budget.delta:g}
# Number of releases without differential privacy.
releases = {budget.releases}

# What the hub of a federation may ask: nothing that is not written here.
# docs/federation.md has all entries.
# [federation]
# rounds = ["cohort", "adapter", "encoder"]
# slides = "/data/slides"
# table = "/data/slides/slides.csv"
# hours = "19:00-06:30"
"""


@dataclass(frozen=True, kw_only=True)
class SiteConfig:
    """What ``site.toml`` holds."""

    site: str = "site"
    """Public label of the site, written into every bundle."""
    near_copies: NearCopySettings = NearCopySettings()
    """Limits of the nearest-neighbour checks."""
    limits: GateLimits = GateLimits()
    """Limits of the gate."""
    budget: Budget = Budget()
    """What one patient may take part in."""
    federation: FederationPolicy = FederationPolicy()
    """What a hub may ask."""


@dataclass(frozen=True)
class SiteHome:
    """The folder that holds a site's key and settings."""

    folder: Path

    @classmethod
    def locate(cls, given: Path | None = None) -> SiteHome:
        """``given``, else ``$PIXCELL_HOME``, else ``~/.pixcell-share``."""
        fallback = os.environ.get("PIXCELL_HOME") or Path.home() / ".pixcell-share"
        return cls(Path(given or fallback))

    @property
    def private_key(self) -> Path:
        """Where the private key lies."""
        return self.folder / "site.key"

    @property
    def public_key(self) -> Path:
        """Where the public key lies."""
        return self.folder / "site.pub"

    @property
    def ledger_key(self) -> Path:
        """Where the key of the ledger lies, once the site's key was changed."""
        return self.folder / "ledger.key"

    @property
    def config_file(self) -> Path:
        """Where the site's label and limits lie."""
        return self.folder / "site.toml"

    def initialise(self, site: str = "site") -> SiteKey:
        """Make the key pair and ``site.toml``.

        Raises:
            KeyFileError: there is a key already; a site's key is never overwritten.
        """
        if self.private_key.exists():
            raise KeyFileError(
                f"{self.private_key} exists already",
                "keep it: bundles are known by it; use --home for a second site",
            )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = SiteKey.create(self.private_key)
        self._publish(key)
        if not self.config_file.exists():
            text = _TEMPLATE.format(
                site=_label(site), near=NearCopySettings(), limits=GateLimits(), budget=Budget()
            )
            atomic_write_text(self.config_file, text)
        return key

    def load_key(self) -> SiteKey:
        """The site's key.

        Raises:
            KeyFileError: there is none, or others can read it.
        """
        if not self.private_key.exists():
            raise KeyFileError(
                f"there is no site key in {self.folder}", "run `pixcell-site init` to make one"
            )
        key = SiteKey.load(self.private_key)
        if not self.public_key.exists():
            self._publish(key)
        return key

    def load_or_create_key(self, say: Callable[[str], None]) -> SiteKey:
        """The site's key; a new one, announced by ``say``, on the first run."""
        if self.private_key.exists():
            return self.load_key()
        key = self.initialise()
        say(f"made a new site key in {self.folder}: fingerprint {key.key_id}")
        return key

    def next_key(self) -> SiteKey:
        """The key that is to take the place of the site's; kept until `take_over`."""
        path = self._next_key
        return SiteKey.load(path) if path.exists() else SiteKey.create(path)

    def take_over(self) -> None:
        """Make the `next_key` the site's. The first key of a site becomes that of its ledger.

        Raises:
            StorageError: the folder cannot be written.
        """
        new = self.next_key()
        with storage_errors(self.private_key):
            if not self.ledger_key.exists():
                self.ledger_key.hardlink_to(self.private_key)
            self._next_key.replace(self.private_key)
            self._publish(new)

    @property
    def _next_key(self) -> Path:
        return self.folder / "site.key.next"

    def ledger(self, key: SiteKey, at_least: Mark | None = None) -> Ledger:
        """The site's record of what its patients took part in.

        Args:
            key: the site's.
            at_least: an entry that it is known to have had.
        """
        own = SiteKey.load(self.ledger_key) if self.ledger_key.exists() else key
        return Ledger(self.folder, own, at_least=at_least)

    def _publish(self, key: SiteKey) -> None:
        atomic_write_text(self.public_key, key.public_pem.decode())

    def config(self) -> SiteConfig:
        """The site's label and limits; the defaults where the file is silent.

        Raises:
            SettingsError: the file is not TOML, or holds an unknown name or a wrong type.
        """
        if not self.config_file.exists():
            return SiteConfig()
        try:
            values = tomllib.loads(self.config_file.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{self.config_file} is not valid TOML: {error}", "mend the line that it names"
            ) from error
        sections: dict[str, type[Any]] = {
            "near_copies": NearCopySettings,
            "limits": GateLimits,
            "budget": Budget,
            "federation": FederationPolicy,
        }
        self._known(values, {"site", *sections}, "")
        found: dict[str, Any] = {}
        for name, kind in sections.items():
            entries = values.get(name, {})
            self._known(entries, {field.name for field in fields(kind)}, f"{name}.")
            found[name] = kind(**entries)
        return SiteConfig(site=_label(values.get("site", SiteConfig.site)), **found)

    def _known(self, values: Any, names: set[str], prefix: str) -> None:
        unknown = sorted(set(values) - names) if isinstance(values, dict) else [str(values)]
        if unknown:
            raise SettingsError(
                f"{self.config_file} has an unknown entry: {prefix}{unknown[0]}",
                f"known here: {', '.join(sorted(names))}",
            )


def _label(site: Any) -> str:
    """``site`` if it may stand in a bundle."""
    check_name("site", str(site))
    return str(site)
