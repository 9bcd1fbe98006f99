"""`pixcell-hub`: what an operator types. The commands are in `hub_server.commands`."""

from __future__ import annotations

from hub_server.commands import (
    accounts,
    bundles,
    cohorts,
    encoders,
    federation,
    log,
    members,
    server,
)
from pixcell_share import console

app = console.application(
    "Take in the bundles that sites send, and make encoders of them.",
    """
    Example: pixcell-hub init --name "Lung consortium" --url https://hub.example.org:8443
             pixcell-hub accounts add anna --role operator
             pixcell-hub serve
             pixcell-hub invite "Hospital A"
             pixcell-hub verify ./bundle --trust hospital-a.pub
    """,
)
for command in (
    bundles.verify,
    server.init,
    server.serve,
    server.doctor,
    members.invite,
    members.admit,
    members.decline,
    members.revoke,
    members.sites,
    cohorts.intake,
    cohorts.cohorts,
    cohorts.cohort,
    cohorts.withdraw,
    encoders.train,
    encoders.evaluate,
    encoders.compare,
    encoders.leaderboard,
    encoders.jobs,
    federation.app,
    federation.ask,
    federation.rounds,
    federation.simulate,
):
    app.command()(command)
app.add_typer(accounts.app, name="accounts")
app.add_typer(log.app, name="log")


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
