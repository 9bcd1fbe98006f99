"""Which app bundles a site lets Flower start: hashes that its operator approved."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_write_text

_HASH = re.compile(r"[0-9a-f]{64}")


class Approvals:
    """The approved hashes of a site.

    Args:
        path: ``approved.json``; no file approves nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def hashes(self) -> list[str]:
        """All of them."""
        if not self._path.exists():
            return []
        found: list[str] = json.loads(self._path.read_text())["approved"]
        return found

    def approve(self, sha256: str) -> None:
        """Approve a bundle.

        Raises:
            SettingsError: this is no SHA-256.
        """
        plain = sha256.strip().lower()
        if not _HASH.fullmatch(plain):
            raise SettingsError(
                "an app bundle is named by its SHA-256, 64 hex digits",
                "compare with `pixcell-hub app`, and with `pixcell-site approve` without a hash",
            )
        self._save(sorted({*self.hashes(), plain}))

    def withdraw(self, sha256: str) -> None:
        """Approve it no more."""
        self._save([known for known in self.hashes() if known != sha256.strip().lower()])

    def _save(self, hashes: list[str]) -> None:
        atomic_write_text(self._path, json.dumps({"approved": hashes}) + "\n")
