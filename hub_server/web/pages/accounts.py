"""Accounts: adding people, their roles, closing accounts; and one's own password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from hub_server.acts import Acts
from hub_server.registry import Account, Role, accounts
from hub_server.web import sessions
from hub_server.web.logins import log_in
from hub_server.web.notes import Note
from hub_server.web.pages._forms import Line, Password, see, submit
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Anybody, Operator, Reader
from hub_server.web.state import acts_of, hub_of
from pixcell_share.errors import HubError, NotFoundError, SettingsError

router = APIRouter(include_in_schema=False)
Id = Annotated[str, Path(pattern=r"^[0-9a-zA-Z]{1,64}$")]


@router.get("/accounts")
def listed(request: Request, person: Reader) -> Response:
    """Everybody who has an account."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        found = accounts.list_accounts(session)
    least = hub.config.accounts.password_length
    oidc = bool(hub.config.oidc.issuer)
    return page(
        request, person, "accounts.html", accounts=found, roles=list(Role), least=least, oidc=oidc
    )


@router.post("/accounts")
async def add(
    request: Request,
    person: Operator,
    name: Line,
    role: Annotated[Role, Form()],
    password: Password = "",
    subject: Annotated[str, Form(max_length=255)] = "",
) -> Response:
    """Add somebody."""

    def work(acts: Acts) -> Note:
        acts.add_account(
            name.strip(), role, password=password or None, oidc_subject=subject.strip() or None
        )
        return Note(f"{name.strip()} has an account.", "Pass the password on by telephone.")

    values = {"name": name, "role": role.value, "subject": subject}
    return await submit(request, person, work, "/accounts", form="add", values=values, hashes=True)


@router.get("/accounts/{account_id}")
def one(request: Request, person: Reader, account_id: Id) -> Response:
    """One account, and what an operator may change of it."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        account = _found(session, account_id)
    least = hub.config.accounts.password_length
    return page(request, person, "account.html", account=account, roles=list(Role), least=least)


@router.post("/accounts/{account_id}/role")
async def change_role(
    request: Request, person: Operator, account_id: Id, role: Annotated[Role, Form()]
) -> Response:
    """Change what somebody may do."""

    def work(acts: Acts) -> Note:
        account = acts.set_role(_name(acts, account_id), role)
        return Note(f"{account.name} is {role.value} from now on.")

    return await submit(request, person, work, f"/accounts/{account_id}", form="role")


@router.post("/accounts/{account_id}/password")
async def reset(request: Request, person: Operator, account_id: Id, password: Password) -> Response:
    """Give somebody a new password."""

    def work(acts: Acts) -> Note:
        name = _name(acts, account_id)
        acts.set_password(name, password)
        return Note(f"{name} has a new password.", "Whoever was logged in with the old one is not.")

    back = f"/accounts/{account_id}"
    return await submit(request, person, work, back, form="password", hashes=True)


@router.post("/accounts/{account_id}/disable")
async def disable(request: Request, person: Operator, account_id: Id) -> Response:
    """Close an account; nobody closes the own one, so that somebody is left who can open it."""

    def work(acts: Acts) -> Note:
        if account_id == person.account_id:
            raise SettingsError("this is your own account", "let another operator close it")
        name = _name(acts, account_id)
        acts.disable_account(name)
        return Note(f"The account of {name} is closed.", "It can be opened again.")

    return await submit(request, person, work, f"/accounts/{account_id}", form="disable")


@router.post("/accounts/{account_id}/enable")
async def enable(request: Request, person: Operator, account_id: Id) -> Response:
    """Open a closed account again."""

    def work(acts: Acts) -> Note:
        name = _name(acts, account_id)
        acts.enable_account(name)
        return Note(f"The account of {name} is open again.")

    return await submit(request, person, work, f"/accounts/{account_id}", form="enable")


@router.get("/account")
def own(request: Request, person: Anybody) -> Response:
    """One's own account."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        account = _found(session, person.account_id)
    least = hub.config.accounts.password_length
    return page(request, person, "own_account.html", account=account, least=least)


@router.post("/account/password")
async def own_password(
    request: Request, person: Anybody, current: Password, password: Password, again: Password
) -> Response:
    """Change one's own password; all other sessions of the account end."""
    try:
        if password != again:
            raise SettingsError("the two new passwords differ", "type the new one twice")
        await log_in(request, person.name, current)
        hub = hub_of(request)
        acts = acts_of(hub, f"account:{person.name}")
        await run_in_threadpool(acts.set_password, person.name, password)
        fresh = await log_in(request, person.name, password)
    except (HubError, SettingsError) as error:
        return see(request, person, "/account", Note.refusal(error, "password", {}))
    response = see(request, person, "/account", Note("You have a new password."))
    sessions.start(response, fresh)
    return response


def _found(session: Session, account_id: str) -> Account:
    account = session.get(Account, account_id)
    if account is None:
        raise NotFoundError("there is no such account", "see the list of accounts")
    return account


def _name(acts: Acts, account_id: str) -> str:
    with acts.registry.reading() as session:
        return _found(session, account_id).name
