"""`make demo`, second half: a hub, from a signed bundle to a leaderboard, by the usual commands.

    python -m hub_server.demo FOLDER

FOLDER holds what the first half made: ``run/bundle`` and ``site``, the home of the site that signed
it. Every command is printed before it runs, so that it can be typed again.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixcell_share.bundles import load_public_key

URL = "https://localhost:9443"
STEPS = 100
_BIN = Path(sys.executable).parent
_ENCODER = "demo"


def main(folder: Path) -> None:
    """Run it; what an earlier run made is kept."""
    hub, site = folder / "hub", folder / "site"
    if not (hub / "hub.key").exists():
        make_hub(folder, hub)
    with served(hub) as address:
        join(hub, site, address)
        call("pixcell-site", "send", folder / "run" / "bundle", "--home", site)
    cohort = said("pixcell-hub", "cohorts", "--home", hub)["cohorts"][0]["cohort"][:8]
    tiles = folder / "test-tiles"
    if not tiles.exists():
        call("pixcell-site", "demo-tiles", tiles)
    jobs = said("pixcell-hub", "jobs", "--home", hub)["jobs"]
    if not any(job["kind"] == "train" and job["state"] == "done" for job in jobs):
        call(
            "pixcell-hub", "train", "--cohort", cohort, "--steps", STEPS, "--name", _ENCODER,
            "--home", hub,
        )  # fmt: skip
    board = said("pixcell-hub", "leaderboard", "--home", hub)["rows"]
    for encoder in {_ENCODER, "nano"} - {row["encoder"] for row in board}:
        call("pixcell-hub", "evaluate", "--encoder", encoder, "--dataset", tiles, "--home", hub)
    call("pixcell-hub", "leaderboard", "--home", hub)
    print(f"\nthe same on pages: pixcell-hub serve --home {hub}, then {URL}/leaderboard")
    print(f"log in as `demo` with the password in {folder / 'password'}")


def make_hub(folder: Path, hub: Path) -> None:
    """A hub with one operator, whose password lies beside it."""
    call("pixcell-hub", "init", "--name", "Demo hub", "--url", URL, "--home", hub)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(12) + "\n")
    words = ("pixcell-hub", "accounts", "add", "demo", "--role", "operator", "--home", hub)
    call(*words, typed=password.read_text())


def join(hub: Path, site: Path, address: str) -> None:
    """Invite the site, let it join, and admit it, as two people would by telephone.

    A member joins again too, since the hub may be at another port than last time.
    """
    name = tomllib.loads((site / "site.toml").read_text())["site"]
    members = said("pixcell-hub", "sites", "--home", hub)["sites"]
    if any(row["site"] == name and row["status"] == "active" for row in members):
        fingerprint = load_public_key(hub / "hub.pub").key_id
        call("pixcell-site", "join", address, "--fingerprint", fingerprint, "--home", site)
        return
    invited = said("pixcell-hub", "invite", name, "--home", hub)
    joined = said(
        "pixcell-site", "join", address, "--code", invited["code"], "--fingerprint",
        invited["fingerprint"], "--no-wait", "--home", site,
    )  # fmt: skip
    call("pixcell-hub", "admit", name, "--fingerprint", joined["key_id"], "--home", hub)


@contextmanager
def served(hub: Path) -> Iterator[str]:
    """The hub at an address of this machine, until the block ends."""
    words = command("pixcell-hub", "serve", "--host", "127.0.0.1", "--port", "0", "--home", hub)
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"https://\S+", server.stdout.readline())
        if found is None:
            raise SystemExit(f"the hub did not start: {server.wait()}")
        yield found[0]
    finally:
        server.terminate()
        server.wait()


def command(program: str, *words: object) -> list[str]:
    """A command as a list, printed as one would type it."""
    typed = [str(word) for word in words]
    print(f"\n$ {program} {shlex.join(typed)}", flush=True)
    return [str(_BIN / program), *typed]


def call(*words: object, typed: str | None = None) -> None:
    """Run a command; it prints for itself."""
    program, *rest = words
    subprocess.run(command(str(program), *rest), check=True, input=typed, text=True)


def said(*words: object) -> dict[str, Any]:
    """Run a command and take what it says."""
    program, *rest = words
    done = subprocess.run(
        command(str(program), *rest, "--json"), check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
