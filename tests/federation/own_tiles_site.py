"""A site with labelled tiles of its own, asked by a hub as the client app does."""

from __future__ import annotations

import csv
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from PIL import Image

from pixcell_share.bundles import SiteKey
from pixcell_share.federation import Answer, Request, RoundKind, Sealed
from pixcell_share.federation.records import arrays_digest
from site_agent.federation.answering import Reply, answer
from site_agent.home import SiteHome
from tests.ssl.conftest import drawn_tiles

PATIENTS, TILES = 36, 6


def policy(folder: Path, **more: Any) -> str:
    entries = {
        "rounds": ["encoder", "probe", "adapter"], "tiles": str(folder),
        "table": str(folder / "tiles.csv"), "patients": 5, "without_dp": True, "device": "cpu",
        **more,
    }  # fmt: skip
    lines = [f"{name} = {_toml(value)}" for name, value in entries.items()]
    return "\n".join(["[federation]", *lines, ""])


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def draw_own_tiles(folder: Path, patients: int, each: int) -> Path:
    """Labelled tiles of patients, of which each has one class."""
    folder.mkdir()
    pictures, kinds = drawn_tiles(patients * each, seed=3)
    names = ("fine", "coarse", "stripes")
    rows = []
    for number, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
        name = f"{number:03d}.png"
        Image.fromarray(picture).resize((256, 256)).save(folder / name)
        patient = 3 * (number // 3 % (patients // 3)) + kind
        rows.append([name, f"p{patient:02d}", names[kind]])
    with (folder / "tiles.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "case_id", "label"], *rows])
    return folder


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough for figures."""
    return draw_own_tiles(tmp_path_factory.mktemp("own") / "tiles", PATIENTS, TILES)


@dataclass
class Asked:
    """A hub that asks one site."""

    home: SiteHome
    hub: SiteKey
    round: str = field(default_factory=lambda: secrets.token_hex(16))

    def ask(
        self, kind: RoundKind, ask: dict[str, Any], arrays: dict[str, np.ndarray], step: int = 0
    ) -> tuple[Answer, Reply]:
        request = Request(self.round, kind, ask, step, arrays_digest(arrays))
        sealed = Sealed.seal(request.document(), "request", self.hub)
        reply = answer(self.home, self.hub.key_id, kind, sealed, arrays)
        site = self.home.load_key().public
        return Answer.of(reply.sealed.open("answer", site.key_id)), reply


MakeSite = Callable[..., Asked]


@pytest.fixture
def site(tmp_path: Path, tiles: Path) -> MakeSite:
    """Makes sites. Their keys are always the same ones: a key chooses tiles and patients."""
    numbers = count()

    def make(**more: Any) -> Asked:
        number = next(numbers)
        home = SiteHome(tmp_path / f"site-{number}")
        home.initialise("hospital-a")
        _give_key(home, number)
        text = home.config_file.read_text()
        home.config_file.write_text(text + "\n" + policy(tiles, **more))
        return Asked(home, SiteKey.create(home.folder / "hub.key"))

    return make


def _give_key(home: SiteHome, number: int) -> None:
    seed = hashlib.sha256(f"site {number} of the tests".encode()).digest()
    private = Ed25519PrivateKey.from_private_bytes(seed)
    home.private_key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    home.public_key.unlink()
