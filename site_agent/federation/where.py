"""Which site this process works for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from site_agent.home import SiteHome

SIMULATED = "PIXCELL_SIMULATED_SITES"
"""Names a JSON list of home folders, one for each simulated node. Set by `pixcell-hub simulate`."""


def site_home(node_config: Mapping[str, Any]) -> SiteHome:
    """The home of the site: ``$PIXCELL_HOME``, or in a simulation that of the node's number."""
    listed = os.environ.get(SIMULATED)
    if listed and "partition-id" in node_config:
        homes = json.loads(Path(listed).read_text())
        return SiteHome(Path(homes[int(node_config["partition-id"])]))
    return SiteHome.locate()
