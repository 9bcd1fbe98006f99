"""A hub and its sites on one machine, made by the commands that people type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hub_server.federation.simulated_data import make_site_data
from hub_server.federation.typed import called, said
from pixcell_share.bundles import load_public_key
from pixcell_share.errors import SettingsError
from pixcell_share.federation import RoundKind
from pixcell_share.files import atomic_write_text

HUB_URL = "https://localhost:9443"


@dataclass(frozen=True)
class SimulatedSite:
    """A site of a simulation."""

    name: str
    home: Path
    tiles: Path | None
    slides: Path | None
    """One of both."""

    @property
    def table(self) -> Path:
        """Patients and labels."""
        if self.tiles is not None:
            return self.tiles / "tiles.csv"
        assert self.slides is not None
        return self.slides / "slides.csv"


def make_hub(folder: Path) -> Path:
    """The home of the simulated hub; one that is there is kept."""
    home = folder / "hub"
    if not (home / "hub.key").exists():
        called("pixcell-hub", "init", "--name", "Simulated hub", "--url", HUB_URL, "--home", home)
    return home


def make_sites(folder: Path, count: int, slides: Sequence[Path]) -> list[SimulatedSite]:
    """Sites with their keys, policies and data; what is there is kept.

    Args:
        folder: of the simulation.
        count: how many.
        slides: of each its slides with ``slides.csv`` among them; none draws tiles for all.

    Raises:
        SettingsError: there are slides for some sites only.
    """
    if slides and len(slides) != count:
        raise SettingsError(
            f"there are slides for {len(slides)} of {count} sites",
            "give --slides once for each site, or not at all",
        )
    numbers = range(count)
    if slides:
        return [_make_site(folder, number, slides=slides[number].resolve()) for number in numbers]
    folders = [folder / "data" / f"tiles-{number + 1}" for number in numbers]
    with ProcessPoolExecutor(2) as pool:
        tiles = list(pool.map(make_site_data, folders, numbers))
    return [_make_site(folder, number, tiles=tiles[number]) for number in numbers]


def _make_site(
    folder: Path, number: int, *, slides: Path | None = None, tiles: Path | None = None
) -> SimulatedSite:
    site = SimulatedSite(f"Site {number + 1}", folder / f"site-{number + 1}", tiles, slides)
    home = site.home
    if not (home / "site.key").exists():
        called("pixcell-site", "init", "--site", site.name, "--home", home)
    _allow(site)
    return site


def _allow(site: SimulatedSite) -> None:
    """Every kind of round, on the site's data, as often as one likes: its patients are drawn."""
    config = site.home / "site.toml"
    before = config.read_text().split("\n[federation]")[0].rstrip()
    before = re.sub(r"(?m)^(epsilon|releases) = .*", r"\1 = 1000", before)
    kinds = ", ".join(f'"{kind.value}"' for kind in RoundKind)
    where = f'tiles = "{site.tiles}"' if site.tiles else f'slides = "{site.slides}"'
    table = f'[federation]\nrounds = [{kinds}]\n{where}\ntable = "{site.table}"\n'
    atomic_write_text(config, f"{before}\n\n{table}")


def join(hub: Path, site: SimulatedSite, address: str) -> None:
    """Invite a site, let it join, and admit it; a member joins again at the new address."""
    members = said("pixcell-hub", "sites", "--home", hub)["sites"]
    if any(row["site"] == site.name and row["status"] == "active" for row in members):
        fingerprint = load_public_key(hub / "hub.pub").key_id
        said("pixcell-site", "join", address, "--fingerprint", fingerprint, "--home", site.home)
        return
    invited = said("pixcell-hub", "invite", site.name, "--home", hub)
    joined = said(
        "pixcell-site", "join", address, "--code", invited["code"], "--fingerprint",
        invited["fingerprint"], "--no-wait", "--home", site.home,
    )  # fmt: skip
    said("pixcell-hub", "admit", site.name, "--fingerprint", joined["key_id"], "--home", hub)
