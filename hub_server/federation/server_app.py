"""The server app that Flower runs at the hub: the same in simulation and deployed."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from hub_server.federation.conducting import conduct
from hub_server.home import HubHome

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct the round that the run's settings name, of the hub in ``$PIXCELL_HUB_HOME``."""
    conduct(HubHome.locate(), grid, str(context.run_config["round"]))
