"""How pages are rendered: escaped, strict about names, with the frame that all share."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FunctionLoader, StrictUndefined

from hub_server.web.notes import NOTHING
from hub_server.web.pages import _words, static
from hub_server.web.pages._rules import reads_all
from hub_server.web.sessions import Person
from hub_server.web.state import HubState, hub_of
from pixcell_share import __version__
from pixcell_share.wire.fingerprints import readable

_FOR_ALL = (
    ("/cohorts", "Cohorts"),
    ("/encoders", "Encoders"),
    ("/leaderboard", "Leaderboard"),
    ("/jobs", "Jobs"),
)
_FOR_READERS = (
    ("/sites", "Sites"),
    ("/withdrawals", "Withdrawals"),
    ("/log", "Log"),
    ("/accounts", "Accounts"),
)


def page(
    request: Request, person: Person | None, template: str, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page of ``hub_server/web/templates``.

    Args:
        request: that asked for it.
        person: who sees it; None for a page that strangers see.
        template: its file.
        status: of the answer.
        **values: what the template shows.
    """
    frame = _frame(request, hub_of(request), person)
    text = environment().get_template(template).render(frame | values)
    return HTMLResponse(text, status)


def _frame(request: Request, hub: HubState, person: Person | None) -> dict[str, Any]:
    ticket = request.query_params.get("note", "")
    note = hub.notes.take(person.account_id, ticket) if person and ticket else NOTHING
    return {
        "person": person,
        "operates": person is not None and person.role == "operator",
        "reads_all": person is not None and reads_all(person),
        "menu": _menu(person),
        "path": request.url.path,
        "note": note,
        "hub_name": hub.config.name,
        "hub_key": readable(hub.key.key_id),
        "version": __version__,
    }


def _menu(person: Person | None) -> tuple[tuple[str, str], ...]:
    if person is None:
        return ()
    return (*_FOR_ALL, *_FOR_READERS) if reads_all(person) else _FOR_ALL


@cache
def environment() -> Environment:
    """The templates."""
    made = Environment(
        loader=FunctionLoader(_source),  # names no folder in what a fault leaves in the log
        auto_reload=False,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_words.FILTERS)
    made.globals.update(static=static.address)
    return made


def _source(name: str) -> str:
    return (files("hub_server.web") / "templates" / name).read_text(encoding="utf-8")
