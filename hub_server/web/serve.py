"""Serve a hub over TLS until it is asked to stop."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter
from uvicorn.config import LOGGING_CONFIG

from hub_server.home import HubHome
from hub_server.web.app import create_app, open_hub
from hub_server.web.background import Background
from hub_server.web.errors import ErrorPage
from hub_server.web.failures import describe
from hub_server.web.state import HubState
from pixcell_share.errors import SettingsError

_HEADER_BYTES = 32 << 10
_SWITCH_S = 0.0005
"""A tenth of Python's own: a page gives way at each call of the database, and while uploads pour in
it waits so long for each return."""
_LOG = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where the hub listens."""

    host: str = "0.0.0.0"
    """Address of this machine; 127.0.0.1 for this machine only."""
    port: int | None = None
    """None: that of the hub's address in hub.toml; 0: any that is free."""
    behind_proxy: bool = False
    """Speak plain HTTP to a proxy on this machine that has a certificate of its own."""
    connections: int = 500
    """Requests at once; more are answered with 503."""
    patience_s: int = 10
    """How long requests may go on when the hub is asked to stop; uploads keep what came."""


def serve(
    home: HubHome,
    settings: ServeSettings,
    *,
    on_ready: Callable[[int], object] = lambda port: None,
    pages: Sequence[APIRouter] = (),
    error_page: ErrorPage | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        home: the hub's.
        settings: where to listen.
        on_ready: told the port once the hub listens.
        pages: routers of the pages, see `hub_server.web.app.create_app`.
        error_page: likewise.

    Raises:
        SettingsError: ``hub.toml`` or the certificate cannot be used, or the port is taken.
        KeyFileError: there is no hub in the folder.
        DatabaseError: the database does not answer.
    """
    hub = open_hub(home, own_certificate=not settings.behind_proxy)
    with ExitStack() as stack:
        stack.callback(hub.registry.close)
        hub.registry.upgrade()
        hub.log.mend()
        app = create_app(hub, pages, error_page)
        stack.enter_context(Background(hub))
        stack.enter_context(_stopping_is_no_failure())
        sys.setswitchinterval(_SWITCH_S)
        Server(server_config(hub, app, settings), on_ready).run()


@contextmanager
def _stopping_is_no_failure() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more, after it has stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: None) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


class Server(uvicorn.Server):
    """uvicorn, which says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[int], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Begin to listen.

        Raises:
            SettingsError: the address or the port cannot be had.
        """
        try:
            await super().startup(sockets)
        except SystemExit as error:  # uvicorn has logged why
            raise SettingsError(
                f"the hub cannot listen on {self.config.host}, port {self.config.port}",
                "give a free one with --port, or end the program that has it",
            ) from error
        if self.started:
            self._on_ready(self.servers[0].sockets[0].getsockname()[1])


def server_config(hub: HubState, app: Any, settings: ServeSettings) -> uvicorn.Config:
    """How uvicorn runs ``app``."""
    own = not settings.behind_proxy
    port = settings.port
    if port is None:
        port = urlsplit(hub.config.url).port or 443
    return uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        ssl_certfile=hub.home.certificate if own else None,
        ssl_keyfile=hub.home.certificate_key if own else None,
        proxy_headers=settings.behind_proxy,
        forwarded_allow_ips="127.0.0.1",
        server_header=False,
        access_log=False,
        log_config=log_config(),
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        h11_max_incomplete_event_size=_HEADER_BYTES,
        limit_concurrency=settings.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=settings.patience_s,
    )


def log_config() -> dict[str, Any]:
    """uvicorn's, with our form of lines, and without folders in tracebacks."""
    formatter = {"()": f"{__name__}.PlainFormatter", "format": _LOG}
    formatters = dict.fromkeys(LOGGING_CONFIG["formatters"], formatter)
    ours = {"handlers": ["default"], "level": "INFO", "propagate": False}
    loggers = {**LOGGING_CONFIG["loggers"], "hub_server": ours}
    return {**LOGGING_CONFIG, "formatters": formatters, "loggers": loggers}


class PlainFormatter(logging.Formatter):
    """Shows an exception by its kind and the modules that it went through."""

    def formatException(  # noqa: N802 - logging's own name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, ...]
    ) -> str:
        """One line, no paths."""
        return describe(ei[1]) if ei[1] is not None else ""
