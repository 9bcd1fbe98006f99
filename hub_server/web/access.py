"""Who may call a route. Every route has exactly one rule, and `check_rules` refuses an app without.

A rule is a dependency::

    @router.get("/sites")
    def sites(person: Annotated[Person, Depends(require_role(Role.OPERATOR, Role.AUDITOR))]): ...

`public` is for everyone, `FromSite` for requests that a member has signed, `known_node` for its
Flower node, `require_role` for people who are logged in. What changes something needs the session's
CSRF token besides, and nobody has to remember that: `require_role` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import Mount

from hub_server.federation.known_node import known_node
from hub_server.registry import Role
from hub_server.web.sessions import Person, check_csrf, check_same_origin, current_account
from hub_server.web.signed import Caller, Signed
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal


def public(request: Request) -> None:
    """A rule: anyone. A browser may send a form here only from our own pages.

    Raises:
        HubError: the form comes from elsewhere.
    """
    check_same_origin(request)


class RequireRole:
    """A rule: people with one of these roles; see `require_role`."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def __call__(self, request: Request) -> Person:
        """The person.

        Raises:
            HubError: nobody is logged in, the role is another, or the CSRF token is missing.
        """
        person = await current_account(request)
        if person is None:
            raise HubError("nobody is logged in", "log in first", Refusal.LOGIN)
        if person.role not in self.roles:
            raise HubError(
                f"your role, {person.role}, may not do this",
                "ask the hub's operator",
                Refusal.FORBIDDEN,
            )
        await check_csrf(request, person)
        return person


def require_role(*roles: Role) -> RequireRole:
    """A rule: people with one of ``roles``."""
    return RequireRole(*roles)


READERS = (Role.OPERATOR, Role.AUDITOR)
"""Those who see everything."""
EVERYONE = tuple(Role)
"""All who are logged in."""

FromSite = Annotated[Caller, Depends(Signed())]
"""A member's request."""
StreamFromSite = Annotated[Caller, Depends(Signed(streams=True))]
"""A member's request whose body the route reads and checks itself."""
FromNewSite = Annotated[Caller, Depends(Signed(pending=True))]
"""A request of a member, or of a site that waits for admission."""

Rule = RequireRole | Signed | Callable[[Request], None]


def rules_of(route: RouteContext) -> list[Rule]:
    """The rules of a route."""
    calls: list[Any] = [each.call for each in _all(route.dependant)]
    return [call for call in calls if _is_rule(call)]


def check_rules(app: FastAPI) -> None:
    """Refuse an app with a route that has no rule, or two.

    Raises:
        RuntimeError: names the route; a fault of the program.
    """
    for route in routes_with_code(app):
        if len(rules_of(route)) != 1:
            raise RuntimeError(f"{route.methods} {route.path} needs exactly one access rule")


def routes_with_code(app: FastAPI) -> Iterator[RouteContext]:
    """All routes; static files are no code.

    Raises:
        RuntimeError: a route of a kind that no rule can be read from.
    """
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            yield route
        elif not (isinstance(route.original_route, Mount) and route.name == "static"):
            raise RuntimeError(f"{route.path} is not a route with a rule")


def _all(dependant: Dependant) -> Iterator[Dependant]:
    for inner in dependant.dependencies:
        yield inner
        yield from _all(inner)


def _is_rule(call: Any) -> bool:
    return call in (public, known_node) or isinstance(call, RequireRole | Signed)
