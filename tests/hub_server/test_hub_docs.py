"""The commands of the pages: those of docs/hub.md typed as written, all others known."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import click
import pytest
import typer

import hub_server.cli
import site_agent.cli
from pixcell_share.bundles import write_bundle
from site_agent.home import SiteHome
from tests.bundles.forging import COHORT, PASSED, make_tiles
from tests.hub_server.terminals import People, Terminal, blocks_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HEADING = "## Two sites, one hub, three terminals"
PROGRAMS = {"pixcell-hub": hub_server.cli.app, "pixcell-site": site_agent.cli.app}
SLOW = ("demo-slides", "synthesize")
"""Not run here: `make demo` runs them, with the same options."""


def section() -> tuple[str, str]:
    """What is typed into the terminals, and then about an encoder."""
    found = (ROOT / "docs" / "hub.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    sites, _, encoder = found.partition("\n### ")
    return sites, encoder


def typed(page: Path) -> Iterator[str]:
    """Every command of our programs in the blocks of a page."""
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.split(" ")[0] in PROGRAMS:
                yield line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_programs_know_every_command_of_the_pages(page: Path) -> None:
    for line in typed(page):
        program, *words = shlex.split(line.removesuffix("&"), comments=True)
        command: click.Command = typer.main.get_command(PROGRAMS[program])
        while isinstance(command, click.Group):
            name, *words = words
            assert name in command.commands, line
            command = command.commands[name]
        _, left, _ = command.make_parser(click.Context(command)).parse_args(words)
        assert not left, line


@pytest.mark.slow
def test_two_sites_and_a_hub_as_the_page_says(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    lines = [(number, line.replace("9443", port)) for number, line in blocks_of(section()[0])]
    with ExitStack() as stack:
        play = Play({n: stack.enter_context(Terminal(tmp_path / str(n))) for n in (1, 2, 3)})
        for number, line in lines:
            play.type(number, line)
        play.at[1].run("kill %1; wait %1 || true")
    assert len(re.findall(r"Hospital [AB] +accepted +24 ", play.shown["cohorts"])) == 2
    assert play.shown["log"].count("cohort.accepted") == 2


class Play(People):
    """The people of the page; what takes minutes is done in their place."""

    def type(self, number: int, line: str) -> None:
        """One line of the page."""
        words, here = shlex.split(line), self.at[number]
        match words[1:]:
            case ["accounts", "add", *_]:
                here.run(line, "nine words would be better than these\n")
            case ["synthesize", *_]:
                _synthesize(here, number, words)
            case [command, *_] if command in SLOW:
                pass
            case ["send", *_]:
                assert re.search(r"^admitted ", here.end(), re.MULTILINE)
                assert re.search(r"^accepted  by Lung consortium$", here.run(line), re.MULTILINE)
            case _:
                super().type(number, line)


def _synthesize(here: Terminal, seed: int, words: list[str]) -> None:
    """In place of `synthesize`: a bundle where it would lie, signed with the site's key."""
    out = next(after for word, after in pairwise(words) if word == "--out")
    home = SiteHome(here.folder / f"site-{'ab'[seed - 2]}")
    cohort = replace(COHORT, site=home.config().site)
    tiles = make_tiles(24, seed=seed)
    write_bundle(here.folder / out / "bundle", cohort, tiles, PASSED, home.load_key(), count=24)
