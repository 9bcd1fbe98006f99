"""What is sent: the files of a bundle, and what is known about them, kept between runs."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixcell_share.bundles import Fault, PublicKey
from pixcell_share.errors import DigestError
from pixcell_share.files import atomic_write_text
from pixcell_share.wire import FileOffer, UploadOffer, offer_of
from site_agent.home import SiteHome

_BLOCK = 4 << 20


@dataclass
class Outbox:
    """A bundle that is being sent, and the file that remembers how far it is.

    The hub knows how much of each file it has. Kept here is what would cost time to find out
    again: the name of the upload, and which files were compared with the manifest.
    """

    bundle: Path
    offer: UploadOffer
    path: Path
    upload_id: str = ""
    checked: dict[str, list[int]] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, home: SiteHome, bundle: Path, key: PublicKey) -> Outbox:
        """Read the bundle's list of files, and what an earlier run found out.

        Args:
            home: the site's.
            bundle: its folder.
            key: the site's; another's bundle is not sent.

        Raises:
            BundleError: the folder holds no bundle that ``key`` signed.
        """
        offer = offer_of(bundle, key)
        path = home.folder / "outbox" / f"{offer.bundle_digest}.json"
        known = _load(path)
        return cls(bundle, offer, path, known.get("upload_id", ""), known.get("checked", {}))

    def save(self) -> None:
        """Remember."""
        with self._turn:
            values = {"upload_id": self.upload_id, "checked": self.checked}
            atomic_write_text(self.path, json.dumps(values) + "\n")

    def check(self, file: FileOffer) -> None:
        """Compare a file with the manifest, once for each of its states.

        Raises:
            DigestError: it was changed since the bundle was signed.
        """
        found = (self.bundle / file.name).stat()
        state = [found.st_ino, found.st_size, found.st_mtime_ns]
        if self.checked.get(file.name) == state:
            return
        if _sha256(self.bundle / file.name) != file.sha256:
            raise DigestError(
                f"{file.name} differs from the digest that the manifest signs",
                "make the bundle again with `pixcell-site synthesize`",
                Fault.DIGEST_WRONG,
            )
        with self._turn:
            self.checked[file.name] = state
        self.save()


def _load(path: Path) -> dict[str, Any]:
    """What `Outbox.save` wrote; nothing if there is none, or it was spoiled: it only saves time."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
