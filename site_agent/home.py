"""The site's home folder: its key pair and ``site.toml``.

The folder is ``--home``, else ``$PIXCELL_HOME``, else ``~/.pixcell-share``::

    site.key    Ed25519 private key (PEM, mode 0600): signs bundles and seeds tiles
    site.pub    its public half: what a hub needs to verify the site's bundles
    site.toml   the site's label and its limits for a release
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
from pixcell_share.files import atomic_write_text
from pixcell_share.privacy import NearCopySettings

_TEMPLATE = """\
# The public label of this site. It is written into every bundle: do not use a
# name that says more than the consortium may know.
site = "{site}"

# A synthetic tile closer than this to any real tile is drawn again, then dropped.
# docs/privacy-officer.md says what the figures mean and how they were measured.
[near_copies]
# Correlation of 64 x 64 pictures with the nearest real tile, 0 to 1. Lower is stricter.
pixel_limit = {limits.pixel_limit}
# Least cosine in the encoder. A run raises it to what its own real tiles reach.
embedding_limit = {limits.embedding_limit}
"""


@dataclass(frozen=True, kw_only=True)
class SiteConfig:
    """What ``site.toml`` holds."""

    site: str = "site"
    """Public label of the site, written into every bundle."""
    near_copies: NearCopySettings = NearCopySettings()
    """Limits of the nearest-neighbour checks."""


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
            text = _TEMPLATE.format(site=_label(site), limits=NearCopySettings())
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
        self._known(values, {"site", "near_copies"}, "")
        limits = values.get("near_copies", {})
        self._known(limits, {field.name for field in fields(NearCopySettings)}, "near_copies.")
        return SiteConfig(
            site=_label(values.get("site", SiteConfig.site)),
            near_copies=NearCopySettings(**limits),
        )

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
