"""What the commands print that need no torch: apart from `site_agent.printing`, which does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixcell_share.bundles import SiteKey
from pixcell_share.console import output, print_json
from pixcell_share.privacy import ledger
from pixcell_share.privacy.ledger import Budget, LedgerState
from pixcell_share.wire.fingerprints import readable
from site_agent.home import SiteHome


def show_key(home: SiteHome, key: SiteKey, as_json: bool) -> None:
    """Where the new key lies, and its fingerprint."""
    if as_json:
        public = str(home.public_key)
        print_json({"home": str(home.folder), "key_id": key.key_id, "public_key": public})
        return
    out = output()
    out.print(f"private key  {home.private_key}  (never leaves this machine; back it up)")
    out.print(f"public key   {home.public_key}")
    out.print(f"settings     {home.config_file}")
    out.print(f"fingerprint  {readable(key.key_id)}")


def show_ledger(state: LedgerState, budget: Budget, as_json: bool) -> None:
    """What the patients took part in, without their names."""
    if as_json:
        print_json(ledger.describe(state, budget))
        return
    out = output()
    out.print("the chain and every signature hold")
    for line in ledger.lines(state, budget):
        out.print(line)


def show_paths(verb: str, paths: Sequence[Path], as_json: bool) -> None:
    """Files that were made."""
    if as_json:
        print_json({"files": [str(path) for path in paths]})
        return
    for path in paths:
        output().print(f"{verb} {path}")


def show_drawn_tiles(folder: Path, count: int, as_json: bool) -> None:
    """A folder of tiles that were drawn."""
    if as_json:
        print_json({"folder": str(folder), "tiles": count})
        return
    output().print(f"drew {count} tiles into {folder}")
