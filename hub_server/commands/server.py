"""Make a hub, and serve it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer

from hub_server.commands.options import Home, Json, show_fields, show_rows
from pixcell_share import console


def init(
    name: Annotated[str, typer.Option(help="The public label of the hub.")] = "hub",
    url: Annotated[
        str, typer.Option(help="Where sites and browsers will reach it.")
    ] = "https://localhost:8443",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a hub: its key, its settings, its certificate and its database.

    \b
    pixcell-hub init --name "Lung consortium" --url https://hub.example.org:8443
    """
    from hub_server.home import HubHome
    from pixcell_share.wire.fingerprints import readable

    place = HubHome.locate(home)
    key = place.initialise(name, url)
    fields: dict[str, object] = {
        "hub": name,
        "url": url,
        "folder": place.folder,
        "fingerprint": readable(key.key_id),
        "next": "pixcell-hub accounts add NAME --role operator, then pixcell-hub serve",
    }
    show_fields(fields, as_json)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 for this machine only.")
    ] = "0.0.0.0",
    port: Annotated[
        int | None, typer.Option(help="Port. (default: that of the hub's url; 0: any free one)")
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy", help="Plain HTTP, for a proxy on this machine with a certificate."
        ),
    ] = False,
    federation: Annotated[
        bool,
        typer.Option(
            "--federation", help="Keep Flower's SuperLink for rounds; needs the extra federation."
        ),
    ] = False,
    home: Home = None,
) -> None:
    """Serve the pages, the uploads and the jobs until Ctrl-C.

    \b
    pixcell-hub serve
    pixcell-hub serve --host 127.0.0.1 --port 9443
    pixcell-hub serve --federation
    """
    from hub_server.federation.supervising import federating
    from hub_server.home import HubHome
    from hub_server.serving import serve_hub
    from hub_server.web.serve import ServeSettings

    place = HubHome.locate(home)
    settings = ServeSettings(host=host, port=port, behind_proxy=behind_proxy)
    out = console.output()
    with federating(place) if federation else nullcontext():
        serve_hub(
            place, settings, lambda address: out.print(f"the hub is at {address}  (Ctrl-C ends)")
        )


def doctor(home: Home = None, as_json: Json = False) -> None:
    """Say beforehand what would fail, each with its remedy. Exit 0 or 1.

    Example: pixcell-hub doctor
    """
    from hub_server.doctor import examine
    from hub_server.home import HubHome
    from pixcell_share.checks import exit_code

    checks = examine(HubHome.locate(home))
    code = exit_code(checks)
    if as_json:
        found = [asdict(check) for check in checks]
        console.print_json({"checks": found, "exit_code": code})
    else:
        rows = [(c.status, c.name, c.detail, c.remedy) for c in checks]
        show_rows(("", "looked at", "found", "to do"), rows, "")
    raise typer.Exit(code)
