"""The log of acts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hub_server.commands.options import Home, Json, show_fields, show_rows
from pixcell_share import console

app = console.application(
    "The log of everything that was done to the hub.",
    """
    Example: pixcell-hub log show
             pixcell-hub log verify
             pixcell-hub log verify --folder ./copy --key hub.pub --since checkpoint-2026-10
    """,
)


@app.command()
def show(
    count: Annotated[int, typer.Option(help="How many of the latest acts.")] = 20,
    about: Annotated[
        str, typer.Option(help="Only acts about this, such as site, cohort or account.")
    ] = "",
    text: Annotated[str, typer.Option(help="Only acts with this in name, actor or subject.")] = "",
    before: Annotated[int | None, typer.Option(help="Only acts before this number.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show acts, the latest first.

    \b
    pixcell-hub log show --count 50
    pixcell-hub log show --about site --text "Hospital A"
    """
    from hub_server.home import HubHome
    from hub_server.log import ActFilter, search

    found = search(HubHome.locate(home).log(), ActFilter(about, text), count, before)
    if as_json:
        acts = [{**asdict(act), "time": act.time.isoformat()} for act in found.acts]
        console.print_json({"acts": acts, "older_before": found.older, "exit_code": 0})
        return
    rows = [
        (act.sequence, f"{act.time:%Y-%m-%d %H:%M:%S}", act.act, act.actor, act.subject)
        for act in found.acts
    ]
    show_rows(("", "time (UTC)", "act", "by", "about"), rows, "no act fits")
    if found.older is not None:
        console.output().print(f"older ones: --before {found.older}")


@app.command()
def verify(
    folder: Annotated[
        Path | None, typer.Option(help="A copy of the log. (default: the hub's own)")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The hub's public key. (default: the hub's own)")
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(help="A checkpoint that you kept: shows a log that was rolled back."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check every act, the chain, the tree and the hub's signature; offline.

    Whoever keeps a checkpoint can tell later that nothing before it was changed.

    \b
    pixcell-hub log verify
    pixcell-hub log verify --folder ./copy --key hub.pub --since checkpoint-2026-10
    """
    from hub_server.home import HubHome
    from hub_server.log import verify_log
    from pixcell_share.bundles import load_public_key

    place = HubHome.locate(home)
    older = since.read_bytes() if since else None
    found = verify_log(folder or place.log_folder, load_public_key(key or place.public_key), older)
    mark = found.checkpoint
    fields: dict[str, object] = {"log": "holds", "acts": mark.size, "root": mark.root.hex()}
    if found.older:
        fields["since"] = f"nothing of the first {found.older.size} acts was changed"
    show_fields(fields, as_json)


@app.command()
def prove(
    act: Annotated[
        int | None, typer.Option(help="Prove that this act, by its number, is in the log.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option(help="Prove that the log only grew since this checkpoint.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the proof goes.")] = Path("proof.json"),
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write a proof that can be checked without the log: `pixcell-hub log check`.

    \b
    pixcell-hub log prove --act 17
    pixcell-hub log prove --since checkpoint-2026-10
    """
    from hub_server.home import HubHome
    from hub_server.log import prove_consistency, prove_inclusion
    from pixcell_share.bundles import load_public_key
    from pixcell_share.errors import SettingsError
    from pixcell_share.files import atomic_write_text

    if (act is None) == (since is None):
        raise SettingsError("nothing, or two things, to prove", "give --act or --since")
    place = HubHome.locate(home)
    key = load_public_key(place.public_key)
    if since is not None:
        text = prove_consistency(place.log_folder, key, since.read_bytes()).to_json()
    else:
        assert act is not None
        text = prove_inclusion(place.log_folder, key, act).to_json()
    atomic_write_text(out, text + "\n")
    show_fields({"proof": out}, as_json)


@app.command()
def check(
    proof: Annotated[Path, typer.Argument(help="A proof that the hub wrote.", exists=True)],
    key: Annotated[Path, typer.Option(help="The hub's public key, hub.pub.")],
    as_json: Json = False,
) -> None:
    """Check a proof; neither the log nor the hub is needed.

    Example: pixcell-hub log check proof.json --key hub.pub
    """
    from hub_server.describing import describe_proof
    from hub_server.log import read_proof
    from pixcell_share.bundles import load_public_key

    shown, log = read_proof(proof.read_text()).check(load_public_key(key))
    show_fields(describe_proof(shown, log), as_json)
