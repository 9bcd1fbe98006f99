"""The folder of a site, as far as a private training on its patients needs it.

Its key and ``[budget]`` are read, its ledger is charged; `site_agent.home` says what else is in it.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import SettingsError
from pixcell_share.privacy.ledger import Budget, Ledger


@dataclass(frozen=True)
class SiteFolder:
    """A site's key, ledger and budget."""

    key: SiteKey
    ledger: Ledger
    budget: Budget

    @classmethod
    def open(cls, given: Path | None = None) -> SiteFolder:
        """``given``, else ``$PIXCELL_HOME``, else ``~/.pixcell-share``.

        Raises:
            KeyFileError: there is no site's key in it.
            SettingsError: the budget in ``site.toml`` is none.
        """
        fallback = os.environ.get("PIXCELL_HOME") or Path.home() / ".pixcell-share"
        folder = Path(given or fallback)
        key = SiteKey.load(folder / "site.key")
        first = folder / "ledger.key"
        own = SiteKey.load(first) if first.exists() else key
        return cls(key, Ledger(folder, own), _budget(folder / "site.toml"))


def _budget(path: Path) -> Budget:
    if not path.exists():
        return Budget()
    try:
        return Budget(**tomllib.loads(path.read_text()).get("budget", {}))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError) as error:
        raise SettingsError(f"{path} has no valid [budget]: {error}", "mend that table") from error
