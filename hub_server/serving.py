"""Serve a hub with its pages."""

from __future__ import annotations

from collections.abc import Callable

from hub_server.home import HubHome
from hub_server.jobs import JobRunner
from hub_server.web import pages
from hub_server.web.serve import ServeSettings, serve


def serve_hub(
    home: HubHome, settings: ServeSettings, on_ready: Callable[[str], object] = lambda url: None
) -> None:
    """Serve API, uploads, jobs and pages until SIGINT or SIGTERM.

    Args:
        home: the hub's.
        settings: where to listen.
        on_ready: told the address once the hub listens.

    Raises:
        SettingsError: ``hub.toml`` or the certificate cannot be used, or the port is taken.
        KeyFileError: there is no hub in the folder.
        StateError: another process serves this hub.
        DatabaseError: the database does not answer.
    """
    url = home.config().url
    scheme = "http" if settings.behind_proxy else "https"

    def ready(port: int) -> None:
        own = settings.port is not None
        on_ready(f"{scheme}://localhost:{port}" if own else url)

    registry = home.registry()
    registry.upgrade()
    registry.close()
    with JobRunner(home):
        serve(home, settings, on_ready=ready, pages=pages.PAGES, error_page=pages.error_page)
