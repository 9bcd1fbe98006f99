"""Cohorts: take in, list, show, withdraw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub_server.commands.options import ACTOR, Home, Json, Reason, show_fields, show_rows
from pixcell_share import console

CohortId = Annotated[str, typer.Argument(help="Digest of the bundle, or its first 8 digits.")]


def intake(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder on this machine.", exists=True)],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take in a bundle that came by another way than an upload. The same checks and limits hold.

    BUNDLE is left as it is. Exit: 0 accepted, 1 rejected.

    Example: pixcell-hub intake ./usb-stick/bundle
    """
    from hub_server.home import HubHome
    from hub_server.intake import intake_folder

    outcome = intake_folder(HubHome.locate(home), bundle)
    fields: dict[str, object] = {"cohort": outcome.cohort, "state": outcome.state.value}
    if outcome.reason:
        fields |= {"reason": outcome.reason.value, "because": outcome.detail}
    if as_json:
        console.print_json({**fields, "exit_code": int(not outcome.accepted)})
    else:
        show_fields(fields, as_json=False)
    raise typer.Exit(int(not outcome.accepted))


def cohorts(
    count: Annotated[int, typer.Option(help="How many of the latest.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List cohorts, the latest first.

    Example: pixcell-hub cohorts --count 500
    """
    from hub_server.home import HubHome
    from hub_server.registry.cohorts import list_cohorts

    registry = HubHome.locate(home).registry()
    with registry.reading() as session:
        rows = [
            (c.id, c.site.name, c.state.value, c.tiles, c.reason or "", c.created_at)
            for c in list_cohorts(session, limit=count + 1)
        ]
    registry.close()
    rows, more = rows[:count], len(rows) > count
    if as_json:
        names = ("cohort", "site", "state", "tiles", "reason")
        found = [dict(zip(names, row[:5], strict=True)) for row in rows]
        console.print_json({"cohorts": found, "more": more, "exit_code": 0})
        return
    shown = [(row[0][:12], *row[1:5], f"{row[5]:%Y-%m-%d %H:%M}") for row in rows]
    show_rows(("cohort", "site", "state", "tiles", "reason", "came (UTC)"), shown, "no cohort yet")
    if more:
        console.output().print(f"these are the latest {count}; --count shows more")


def cohort(cohort: CohortId, home: Home = None, as_json: Json = False) -> None:
    """Show one cohort: state, counts, licences, and the encoders that learned from it.

    COHORT is the digest of its bundle, or the first 8 digits.

    Example: pixcell-hub cohort 6b755a49
    """
    from hub_server.describing import describe_cohort
    from hub_server.home import HubHome

    registry = HubHome.locate(home).registry()
    with registry.reading() as session:
        fields = describe_cohort(session, cohort)
    registry.close()
    show_fields(fields, as_json)


def withdraw(cohort: CohortId, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Delete a cohort's tiles for good; a tombstone with the reason stays.

    COHORT is the digest of its bundle, or the first 8 digits. Encoders that learned from it are
    named: they are not deleted.

    Example: pixcell-hub withdraw 6b755a49 --reason "a patient objected"
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        done = acts.withdraw(cohort, reason)
    fields: dict[str, object] = {
        "cohort": done.cohort.id,
        "state": done.cohort.state.value,
        "encoders_trained_on_it": [encoder.name for encoder in done.encoders],
    }
    show_fields(fields, as_json)
