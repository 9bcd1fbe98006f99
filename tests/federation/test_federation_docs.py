"""The three terminals of docs/federation.md, typed as written; only the slides are smaller."""

from __future__ import annotations

import re
import shlex
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from pixcell_share.slides import draw_demo_slides
from tests.hub_server.terminals import People, Terminal, blocks_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "federation.md"
HEADING = "## Two sites, one hub, three terminals"
CANVAS = (320, 512)
"""Two tiles of each patient."""
FEW = {
    "cohort": " --set tiles_per_class=1 --set steps=2",
    "adapter": " --set rounds=1 --set steps=2 --set tiles_per_patient=1",
}
"""Typed after the rest of the line: a round of seconds."""


@pytest.mark.slow
def test_the_page_typed_as_written(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    section = PAGE.read_text().partition(HEADING)[2].partition("\n### ")[0]
    with ExitStack() as stack:
        play = Play({n: stack.enter_context(Terminal(tmp_path / str(n))) for n in (1, 2, 3)})
        for number, line in blocks_of(section):
            play.type(number, line.replace("9443", port))
    assert len(re.findall(r"Hospital [AB] +0 +done +PASS", play.shown["cohort"])) == 2
    assert re.search(r'"counted": \[\s+"Hospital A",\s+"Hospital B"\s+\]', play.shown["adapter"])
    assert len(list((tmp_path / "1/hub").glob("federation/rounds/*/*.safetensors"))) == 1
    assert len(re.findall(r"^[0-9a-f]{8} +\w+ +done", play.shown["rounds"], re.MULTILINE)) == 2
    assert len(re.findall(r"^round +[0-9a-f]{8} ", play.shown["status"], re.MULTILINE)) == 2
    assert play.shown["log"].count("round.close") == 2


class Play(People):
    """The people of the page."""

    def __init__(self, terminals: dict[int, Terminal]) -> None:
        super().__init__(terminals)
        self._hash = ""

    def type(self, number: int, line: str) -> None:
        """One line of the page."""
        words, here = shlex.split(line.partition("\n")[0]), self.at[number]
        match words[1:]:
            case ["app"]:
                self._hash = re.findall(r"^sha256 +([0-9a-f]{64})$", here.run(line), re.M)[0]
            case ["init", "--site", *_]:
                here.run(line)
                _loosen(here.folder / f"site-{'ab'[number - 2]}")
            case ["demo-slides", name, "--seed", seed]:
                draw_demo_slides(here.folder / name, count=6, seed=int(seed), canvas=CANVAS)
            case ["approve", "HASH"]:
                assert "(this version)" in here.run(line.replace("HASH", self._hash))
            case ["agent", "&"]:
                here.run(line)
                here.wait_for("connecting to Lung consortium")
            case ["ask", kind, *_]:
                self.shown[kind] = here.run(line + FEW[kind])
            case ["%1"]:
                here.run(f"{line}; wait %1 || true")
            case _ if line.startswith("cat "):
                assert re.search(r"^admitted ", here.end(), re.MULTILINE)
                here.run(line)
            case _:
                super().type(number, line)


def _loosen(home: Path) -> None:
    """Limits that six drawn patients cannot miss by chance."""
    settings = home / "site.toml"
    text = re.sub(r"(?m)^((?:class_)?patients) = .*", r"\1 = 1", settings.read_text())
    settings.write_text(re.sub(r"(?m)^(retrieval_\w+|linkage_\w+) = .*", r"\1 = 1.0", text))
