"""What `join`, `send` and `rotate-key` print."""

from __future__ import annotations

from dataclasses import asdict

from rich.markup import escape

from pixcell_share.console import output, print_json
from pixcell_share.wire.fingerprints import readable
from site_agent.joining import JoinOutcome
from site_agent.rotating import RotationOutcome
from site_agent.sending import SendOutcome


def show_joined(outcome: JoinOutcome, as_json: bool) -> None:
    """Where the site stands, and what to do next."""
    if as_json:
        print_json({**asdict(outcome), "exit_code": 0})
        return
    out = output()
    out.print(f"hub          {escape(outcome.hub)}  {outcome.url}")
    out.print(f"site         {escape(outcome.site)}")
    out.print(f"fingerprint  {readable(outcome.key_id)}")
    if outcome.status == "active":
        out.print("[bold green]admitted[/]     send bundles with `pixcell-site send run/bundle`")
    else:
        out.print("[bold]pending[/]      read the fingerprint to the hub's operator, who then")
        out.print(
            f"             admits it: pixcell-hub admit {escape(outcome.site)!r} --fingerprint ..."
        )


def show_sent(outcome: SendOutcome, as_json: bool) -> int:
    """What became of a bundle; returns the exit code."""
    if as_json:
        summary = str(outcome.summary) if outcome.summary else None
        print_json({**asdict(outcome), "summary": summary, "exit_code": outcome.exit_code})
        return outcome.exit_code
    out = output()
    colour = "bold red" if outcome.exit_code else "bold green"
    out.print(f"[{colour}]{outcome.state}[/]  by {escape(outcome.hub)}")
    if outcome.reason:
        out.print(f"reason    {outcome.reason}: {escape(outcome.detail)}")
    out.print(f"bundle    {outcome.bundle}")
    out.print(f"sent      {outcome.bytes_sent / 1e6:.1f} MB in {outcome.seconds:.0f} s")
    if outcome.summary is not None:
        out.print(f"summary   {outcome.summary}  (signed by the hub)")
    return outcome.exit_code


def show_rotated(outcome: RotationOutcome, as_json: bool) -> None:
    """The new fingerprint."""
    if as_json:
        print_json({**asdict(outcome), "exit_code": 0})
        return
    out = output()
    out.print(f"the site's key was changed at {escape(outcome.hub)}, which retired the old one")
    out.print(f"old fingerprint  {readable(outcome.old_key_id)}")
    out.print(f"new fingerprint  {readable(outcome.key_id)}")
    out.print("back up the new key; bundles from now on are signed with it")
