"""What every command shares: errors in plain words, exit codes, ``--json`` and ``--debug``.

A ``cli.py`` makes its app with `application`, and its console script calls `run`::

    app = console.application("Verify and keep bundles.", "Example: pixcell-hub verify ./bundle")

    @app.command()
    def verify(...) -> None: ...

    def main() -> None:
        console.run(app)

Exit codes: 0 done, 1 failed, 2 bad usage or settings, 3 done but some slides were left out,
4 refused by the privacy checks, 130 stopped by Ctrl-C. People read standard error for what went
wrong; with ``--json`` the last line of standard output is one object, also for an error.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from typing import Any, NoReturn

import click
import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from pixcell_share import __version__, startup
from pixcell_share.errors import PixcellError
from pixcell_share.files import canonical_json

__all__ = ["INTERRUPTED", "application", "output", "print_json", "run"]

INTERRUPTED = 130
_USAGE = 2
_PIPE_WIDTH = 1000
_OWN = {"pixcell_share", "site_agent", "hub_server"}
_FAULT = "this is a fault of the program: run it again with --debug and report what it says"
_INSTALL = "pip install -c constraints.txt '.[hub,train]' installs what hub and trainer need"


def application(purpose: str, examples: str = "") -> typer.Typer:
    """An app whose commands all take ``--debug``, and whose ``--help`` ends with examples."""
    app = _App(
        cls=_Group,
        help=purpose,
        epilog=cleandoc(examples),
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_version_option)
    return app


def output() -> Console:
    """Standard output for people: styled in a terminal, plain and unwrapped in a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def print_json(value: Mapping[str, Any]) -> None:
    """Print the one object of ``--json``, on one line; call it last."""
    print(canonical_json(value).decode(), flush=True)


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with its exit code.

    Args:
        app: from `application`.
        arguments: instead of ``sys.argv[1:]``.
    """
    startup.start()
    words = list(sys.argv[1:] if arguments is None else arguments)
    code = _run(app, words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe went away, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run(app: typer.Typer, words: list[str]) -> int:
    # The words are searched, rather than parsed, so that a usage error is printed as asked too.
    as_json, debug = "--json" in words, "--debug" in words
    try:
        code = app(args=words, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return _report(as_json, _USAGE, "usage", error.format_message())
    except PixcellError as error:
        _show_error(error.cause, error.remedy, debug)
        return _report(as_json, error.exit_code, **error.diagnostics())
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except Exception as error:
        code_name, cause, remedy = _explained(error)
        _show_error(cause, remedy, debug)
        return _report(as_json, 1, code_name, cause, remedy)
    if code == INTERRUPTED:
        _show_error("stopped by Ctrl-C", "", debug)
        return _report(as_json, INTERRUPTED, "interrupted", "stopped by Ctrl-C")
    return code if isinstance(code, int) else 0


def _explained(error: Exception) -> tuple[str, str, str]:
    """Code, cause and remedy of an error that is none of ours: an extra is missing, or a fault."""
    if isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] not in _OWN:
        return "not_installed", f"the package {error.name} is not installed", _INSTALL
    return "unexpected", f"unexpected {type(error).__name__}: {error}", _FAULT


def _report(
    as_json: bool, exit_code: int, code: str, cause: str, remedy: str = "", **more: str
) -> int:
    if as_json:
        error = {"code": code, "cause": cause, "remedy": remedy, **more}
        print_json({"error": error, "exit_code": exit_code})
    return exit_code


def _show_error(cause: str, remedy: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    console.print(Text.assemble(("error: ", "bold red"), cause))
    if remedy:
        console.print(Text(f"  -> {remedy}"))


class _Command(TyperCommand):
    """A command with ``--debug``; `_run` looks for the word, so its value goes nowhere."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        help_text = "Show where in the program an error came from."
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, help=help_text)
        )


class _Group(TyperGroup):
    """A group whose epilog keeps its lines: it holds commands to copy."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        epilog, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)
        self.epilog = epilog
        if epilog:
            click.echo(epilog + "\n")


class _App(typer.Typer):
    def command(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        return super().command(*args, **{"cls": _Command, **kwargs})


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pixcell-share {__version__}")
        raise typer.Exit


def _version_option(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Shown nowhere: the app has its own help."""
