"""Check a bundle by hand, without a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub_server import checking, policy, printing
from hub_server.commands.options import Json


def verify(
    bundle: Annotated[
        Path, typer.Argument(help="The bundle's folder.", exists=True, file_okay=False)
    ],
    trust: Annotated[
        list[Path],
        typer.Option(help="Public key (.pub) of a site to accept; may be given more than once."),
    ],
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="What a figure of the audit, or with limits. a limit of the site, must keep, such "
            'as "patient_linkage.residual_high<=0.1"; may be given more than once.'
        ),
    ] = None,
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="A hub.toml whose table [require] holds such requirements.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Accept a bundle, or say which file, field or figure is wrong and what to do.

    BUNDLE is the folder that a site sent. Exit: 0 accepted, 1 refused, 2 bad usage.

    \b
    pixcell-hub verify ./bundle --trust hospital-a.pub
    pixcell-hub verify ./bundle --trust hospital-a.pub --policy hub.toml
    pixcell-hub verify ./bundle --trust hospital-a.pub \\
        --require "patient_linkage.residual_high<=0.1"
    pixcell-hub verify ./bundle --trust hospital-a.pub --trust hospital-b.pub --json
    """
    asked = policy.gather(require or (), policy_file)
    printing.show_verified(checking.verify(bundle, trust, asked), asked, as_json)
