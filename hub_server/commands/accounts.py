"""People who log in to the pages."""

from __future__ import annotations

from typing import Annotated

import click
import typer

from hub_server.commands.options import ACTOR, Home, Json, show_fields, show_rows
from pixcell_share import console

app = console.application(
    "People who log in to the pages.",
    """
    Example: pixcell-hub accounts add anna --role operator
             pixcell-hub accounts list
    """,
)
Name = Annotated[str, typer.Argument(help="What the person logs in as.")]
RoleName = Annotated[
    str,
    typer.Option(
        "--role",
        click_type=click.Choice(["operator", "auditor", "researcher"]),
        help="operator: may all; auditor: sees all; researcher: sees cohorts and results.",
    ),
]


@app.command()
def add(
    name: Name,
    role: RoleName = "researcher",
    oidc_subject: Annotated[
        str | None,
        typer.Option(help="Log in by the identity provider only: its `sub` for this person."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Add a person; the password is asked for, or read from standard input.

    \b
    pixcell-hub accounts add anna --role operator
    pixcell-hub accounts add ben --role auditor --oidc-subject 8f14e45f
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome
    from hub_server.passwords import ask_password
    from hub_server.registry import Role

    password = None if oidc_subject else ask_password()
    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        account = acts.add_account(name, Role(role), password=password, oidc_subject=oidc_subject)
    show_fields({"name": account.name, "role": account.role.value}, as_json)


@app.command()
def password(name: Name, home: Home = None, as_json: Json = False) -> None:
    """Set a new password; it is asked for, or read from standard input. Ends all log-ins.

    Example: pixcell-hub accounts password anna
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome
    from hub_server.passwords import ask_password

    chosen = ask_password()
    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        acts.set_password(name, chosen)
    show_fields({"name": name, "password": "changed"}, as_json)


@app.command()
def role(name: Name, role: RoleName, home: Home = None, as_json: Json = False) -> None:
    """Give a person another role.

    Example: pixcell-hub accounts role ben --role researcher
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome
    from hub_server.registry import Role

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        account = acts.set_role(name, Role(role))
    show_fields({"name": account.name, "role": account.role.value}, as_json)


@app.command()
def disable(name: Name, home: Home = None, as_json: Json = False) -> None:
    """Close an account; its log-ins end at once.

    Example: pixcell-hub accounts disable ben
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        acts.disable_account(name)
    show_fields({"name": name, "status": "disabled"}, as_json)


@app.command()
def enable(name: Name, home: Home = None, as_json: Json = False) -> None:
    """Open an account again.

    Example: pixcell-hub accounts enable ben
    """
    from hub_server.acts import Acts
    from hub_server.home import HubHome

    with Acts.opened(HubHome.locate(home), ACTOR) as acts:
        acts.enable_account(name)
    show_fields({"name": name, "status": "enabled"}, as_json)


@app.command("list")
def list_all(home: Home = None, as_json: Json = False) -> None:
    """List accounts and their roles.

    Example: pixcell-hub accounts list
    """
    from hub_server.home import HubHome
    from hub_server.registry.accounts import list_accounts

    registry = HubHome.locate(home).registry()
    with registry.reading() as session:
        rows = [
            (a.name, a.role.value, "identity provider" if a.oidc_subject else "password",
             "disabled" if a.disabled_at else "")
            for a in list_accounts(session)
        ]  # fmt: skip
    registry.close()
    if as_json:
        names = ("name", "role", "logs_in_by", "status")
        found = [dict(zip(names, row, strict=True)) for row in rows]
        console.print_json({"accounts": found, "exit_code": 0})
        return
    show_rows(
        ("name", "role", "logs in by", ""),
        rows,
        "no account yet: pixcell-hub accounts add NAME --role operator",
    )
