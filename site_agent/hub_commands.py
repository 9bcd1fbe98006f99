"""The commands of `pixcell-site` that talk to a hub. They parse, call and print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from site_agent.options import Home, Json

NoWait = Annotated[bool, typer.Option("--no-wait", help="End without waiting for an answer.")]
GiveUp = Annotated[
    float | None,
    typer.Option(
        "--give-up-after", help="Seconds without progress after which to end. (default: never)"
    ),
]


def join(
    url: Annotated[str, typer.Argument(help="Address of the hub, from the invitation.")],
    fingerprint: Annotated[
        str, typer.Option(help="Fingerprint of the hub's key, from the invitation.")
    ],
    code: Annotated[str | None, typer.Option(help="Code of the invitation; it works once.")] = None,
    no_wait: NoWait = False,
    give_up_after: GiveUp = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Join a hub: send it this site's public key. The private key stays here.

    URL is the hub's address. Then read the fingerprint to the hub's operator by telephone.

    \b
    pixcell-site join https://hub.example.org:8443 --code 2b5m-famz-... --fingerprint 692c59fd...
    """
    from pixcell_share.progress import choose_view
    from site_agent.home import SiteHome
    from site_agent.hub_printing import show_joined
    from site_agent.joining import JoinSettings
    from site_agent.joining import join as join_hub

    settings = JoinSettings(code=code, wait=not no_wait, give_up_after_s=give_up_after)
    with choose_view() as view:
        place = SiteHome.locate(home)
        place.load_or_create_key(view.say)
        outcome = join_hub(url, fingerprint, place, view, settings)
    show_joined(outcome, as_json)


def send(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.", exists=True)],
    no_wait: NoWait = False,
    connections: Annotated[int, typer.Option(help="Files sent at the same time.")] = 3,
    give_up_after: GiveUp = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Send a signed bundle to the hub, and wait for what the hub says of it.

    BUNDLE is a folder that `synthesize` made. Break it off whenever you like: the same command
    goes on. Exit: 0 accepted, 1 refused by the hub.

    \b
    pixcell-site send run/bundle
    pixcell-site send run/bundle --no-wait
    """
    from pixcell_share.progress import choose_view
    from site_agent.delivery import SendSettings
    from site_agent.home import SiteHome
    from site_agent.hub_printing import show_sent
    from site_agent.sending import send as send_bundle

    settings = SendSettings(
        connections=connections, wait=not no_wait, give_up_after_s=give_up_after
    )
    with choose_view() as view:
        outcome = send_bundle(bundle, SiteHome.locate(home), view, settings)
    raise typer.Exit(show_sent(outcome, as_json))


def rotate_key(give_up_after: GiveUp = None, home: Home = None, as_json: Json = False) -> None:
    """Replace the site's key by a new one, which the old one signs for the hub.

    The old key is kept beside. Bundles that it signed stay valid; new ones need the new key.

    Example: pixcell-site rotate-key
    """
    from site_agent.home import SiteHome
    from site_agent.hub_printing import show_rotated
    from site_agent.rotating import rotate_key as rotate

    show_rotated(rotate(SiteHome.locate(home), give_up_after_s=give_up_after), as_json)
