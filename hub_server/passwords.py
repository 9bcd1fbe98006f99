"""Ask for a password without showing it, or take it from a pipe."""

from __future__ import annotations

import sys

import typer


def ask_password() -> str:
    """Typed twice at a terminal; else the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
