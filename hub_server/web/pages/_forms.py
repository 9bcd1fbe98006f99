"""Forms: the act, a note about it, and a redirect to the page that shows both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from anyio import to_thread
from fastapi import Form, Request
from fastapi.responses import RedirectResponse

from hub_server.acts import Acts
from hub_server.web.notes import Note
from hub_server.web.sessions import Person
from hub_server.web.state import hub_of
from pixcell_share.errors import HubError, SettingsError

Line = Annotated[str, Form(max_length=200)]
Words = Annotated[str, Form(max_length=2000)]
Password = Annotated[str, Form(max_length=4000)]
_SEE_OTHER = 303


async def submit(
    request: Request,
    person: Person,
    work: Callable[[Acts], Note],
    back: str,
    *,
    form: str = "",
    values: Mapping[str, str] | None = None,
    hashes: bool = False,
) -> RedirectResponse:
    """Do what a form asks for, and go back to its page.

    Args:
        request: that brought the form.
        person: who sent it.
        work: does it, and says what was done.
        back: the page to go to.
        form: which form of that page it was.
        values: what to fill in again where it is refused; never a password.
        hashes: whether it hashes a password, of which only a few may go on at once.

    Raises:
        DatabaseError: the database does not answer.
        StorageError: the disk is full.
    """
    hub = hub_of(request)
    acts = Acts(hub.home, hub.registry, hub.config, hub.log, f"account:{person.name}")
    try:
        limiter = hub.hashers if hashes else None
        note = await to_thread.run_sync(work, acts, limiter=limiter)
    except (HubError, SettingsError) as error:
        note = Note.refusal(error, form, values or {})
    return see(request, person, back, note)


def see(request: Request, person: Person, back: str, note: Note) -> RedirectResponse:
    """Go to a page that shows a note."""
    ticket = hub_of(request).notes.leave(person.account_id, note)
    return RedirectResponse(f"{back}?note={ticket}", _SEE_OTHER)
