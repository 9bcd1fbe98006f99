"""The pages of the hub, rendered on the server.

They load nothing from elsewhere, and work without a script. A page reads the registry; a form goes
through `hub_server.acts`, as the command line does.
"""

from collections.abc import Sequence

from fastapi import APIRouter

from hub_server.web.pages import (
    accounts,
    cohorts,
    encoders,
    home,
    jobs,
    leaderboard,
    log,
    login,
    sites,
    static,
    withdrawals,
)
from hub_server.web.pages.errors import error_page

PAGES: Sequence[APIRouter] = tuple(
    module.router
    for module in (
        static,
        login,
        home,
        cohorts,
        encoders,
        leaderboard,
        jobs,
        sites,
        withdrawals,
        log,
        accounts,
    )
)
"""For `hub_server.web.app.create_app`."""

__all__ = ["PAGES", "error_page"]
