"""People at terminals: shells that tests type into, and the pages that say what to type."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

_PATIENCE_S = 300.0
_PARTS = re.compile(r"\*\*Terminal (\d)|^```\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"^.*<<(\w+)\n(?:.*\n)*?\1$|^.+$", re.MULTILINE)
_BIN = Path(sys.executable).parent


def blocks_of(section: str) -> list[tuple[int, str]]:
    """What is typed, line by line, with the terminal that was named last before it.

    A here-document counts as one line.
    """
    terminal, found = 0, []
    for part in _PARTS.finditer(section):
        if part[1]:
            terminal = int(part[1])
        else:
            found += [(terminal, line[0]) for line in _LINE.finditer(part[2])]
    return found


class Terminal:
    """A shell in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        path = f"{_BIN}{os.pathsep}{os.environ['PATH']}"
        self.folder = folder
        self._shell = subprocess.Popen(
            ["bash"], cwd=folder, env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        self._shown, self._begun, self._number = "", 0, 0
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        if kind is not None:  # what runs in the background would outlive a failed test
            os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.wait(_PATIENCE_S)
        self._reader.join(_PATIENCE_S)

    def begin(self, line: str, answer: str = "") -> None:
        """Type a line, and an answer to what it asks, without waiting for its end."""
        assert self._shell.stdin is not None
        self._begun, self._number = len(self._shown), self._number + 1
        end = f'echo "[{self._number} ended: $?]"'
        joint = " " if line.endswith("&") else "\n" if "<<" in line else "; "
        self._shell.stdin.write(f"{line}{joint}{end}\n{answer}".encode())

    def end(self) -> str:
        """Wait for the end of what was begun, which has to succeed; what it showed."""
        shown = self.wait_for(rf"\[{self._number} ended: (\d+)\]")
        assert f"[{self._number} ended: 0]" in shown, shown
        return shown

    def run(self, line: str, answer: str = "") -> str:
        """Type a line, and wait for its end."""
        self.begin(line, answer)
        return self.end()

    def wait_for(self, pattern: str) -> str:
        """Wait until what is shown since the last line has ``pattern``; what that is."""
        with self._news:
            found = self._news.wait_for(
                lambda: re.search(pattern, self._shown[self._begun :]), _PATIENCE_S
            )
        assert found, f"no {pattern!r} in: {self._shown[self._begun :]}"
        return self._shown[self._begun :]

    def _read(self) -> None:
        assert self._shell.stdout is not None
        while data := self._shell.stdout.read(1 << 16):
            with self._news:
                self._shown += data.decode()
                self._news.notify_all()


class People:
    """Three people who type, and tell each other what the page has in capitals."""

    def __init__(self, terminals: dict[int, Terminal]) -> None:
        self.at = terminals
        self.shown: dict[str, str] = {}
        """By the latest command of each kind."""
        self.invitations: list[str] = []
        self.fingerprints: dict[str, str] = {}

    def type(self, number: int, line: str) -> None:
        """One line of the page."""
        words, here = shlex.split(line), self.at[number]
        match words[1:]:
            case ["invite", *_]:
                self.invitations.append(_invitation(here.run(line)))
            case ["join", *_]:
                self._join(here, line, f"Hospital {'AB'[number - 2]}")
            case ["admit", site, *_]:
                here.run(re.sub(r'"FINGERPRINT OF [AB]"', f'"{self.fingerprints[site]}"', line))
            case ["serve", *_]:
                here.run(line)
                here.wait_for("the hub is at")
            case [command, *_]:
                self.shown[command] = here.run(line)

    def _join(self, here: Terminal, line: str, site: str) -> None:
        """The line of the invitation, which has to be that of the page."""
        told = self.invitations.pop(0)
        shape = re.escape(line).replace("CODE", r"\S+").replace("FINGERPRINT", "[0-9a-f]{64}")
        assert re.fullmatch(shape, told), told
        here.begin(told)
        shown = here.wait_for("waiting to be admitted")
        self.fingerprints[site] = re.findall(r"^ +((?:[0-9a-f]{4} ?){16})$", shown, re.MULTILINE)[0]


def _invitation(shown: str) -> str:
    """The line that the site has to type."""
    return re.findall(r"^the site types +(.*)$", shown, re.MULTILINE)[0]
