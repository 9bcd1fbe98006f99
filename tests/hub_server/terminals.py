"""People at terminals: shells that tests type into, and the pages that say what to type."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

_PATIENCE_S = 120.0
_PARTS = re.compile(r"\*\*Terminal (\d)|^```\n(.*?)^```", re.DOTALL | re.MULTILINE)
_BIN = Path(sys.executable).parent


def blocks_of(section: str) -> list[tuple[int, str]]:
    """Each line of code of a section, with the terminal that was named last before it."""
    terminal, found = 0, []
    for part in re.finditer(
        r"\*\*Terminal (\d)|^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE
    ):
        if part[1]:
            terminal = int(part[1])
        else:
            found += [(terminal, line) for line in part[2].splitlines()]
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
        )  # fmt: skip
        self._shown, self._begun, self._number = "", 0, 0
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

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
        self._shell.wait(_PATIENCE_S)

    def begin(self, line: str, answer: str = "") -> None:
        """Type a line, and an answer to what it asks, without waiting for its end."""
        assert self._shell.stdin is not None
        self._begun, self._number = len(self._shown), self._number + 1
        end = f'echo "[{self._number} ended: $?]"'
        joint = " " if line.endswith("&") else "; "
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
