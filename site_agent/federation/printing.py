"""What the commands of federations print, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.markup import escape

from pixcell_share import console
from site_agent.federation.status import Status


def show_approvals(approved: Sequence[str], own: str, as_json: bool) -> None:
    """The approved hashes, and the one of this version."""
    if as_json:
        console.print_json({"approved": list(approved), "this_version": own, "exit_code": 0})
        return
    out = console.output()
    for sha256 in approved:
        out.print(f"approved      {sha256}{'  (this version)' if sha256 == own else ''}")
    if own not in approved:
        out.print(f"this version  {own}  (not approved)")
        out.print("compare it with the hub's operator, then: pixcell-site approve HASH")


def show_status(status: Status, as_json: bool) -> None:
    """The agent, the policy and the rounds."""
    if as_json:
        console.print_json({**asdict(status), "exit_code": 0})
        return
    out = console.output()
    detail = f": {escape(status.detail)}" if status.detail else ""
    out.print(f"agent     {status.agent}{detail}  {status.since}")
    if status.working:
        out.print(f"works on  {status.working['kind']} round {status.working['round'][:8]}")
    allowed = ", ".join(status.allowed) or "nothing: see [federation] in site.toml"
    out.print(f"allowed   {escape(allowed)}")
    if status.hours:
        out.print(f"hours     {status.hours}{'' if status.works_now else '  (not now)'}")
    out.print(f"apps      {len(status.approved)} approved")
    for seen in status.rounds:
        out.print(f"round     {seen.round[:8]}  {seen.kind}  {seen.steps} answered  {seen.when}")
