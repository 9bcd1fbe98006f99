"""Every route, called by everyone: the rules are read from the app, so a new route is tried too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hub_server.registry import Role
from hub_server.web.access import (
    RequireRole,
    check_rules,
    public,
    require_role,
    routes_with_code,
    rules_of,
)
from hub_server.web.app import create_app
from hub_server.web.pages import PAGES, error_page
from hub_server.web.sessions import CSRF_HEADER, Person
from hub_server.web.signed import Signed
from tests.hub_server.web_calls import SiteCaller, Visitor, WebHub

REFUSED = {401, 403}
_SAFE = {"GET", "HEAD", "OPTIONS"}


@pytest.fixture
def full_hub(web_hub: WebHub) -> WebHub:
    """With the pages."""
    web_hub.app = create_app(web_hub.state, PAGES, error_page)
    return web_hub


def calls(app: FastAPI) -> Iterator[tuple[str, str, Any]]:
    """Method, path and rule of every route; parts of paths are filled in."""
    for route in routes_with_code(app):
        path = route.path or ""
        for name in route.param_convertors:
            path = path.replace(f"{{{name}:path}}", "x").replace(f"{{{name}}}", "0" * 64)
        for method in sorted(route.methods or ()):
            yield method, path, rules_of(route)[0]


def call(visitor: Visitor, method: str, path: str, *, csrf: str | None) -> Any:
    fields = {CSRF_HEADER: csrf} if csrf is not None else {}
    return visitor.browser.request(method, path, headers=fields)


def lets_in(answer: Any) -> bool:
    """Not that it worked: these calls lack what each route wants. But nobody was shut out."""
    to_login = answer.status_code == 303 and answer.headers["Location"].startswith("/login")
    return answer.status_code not in REFUSED and not to_login


def test_nobody_in_particular_gets_into_public_routes_only(full_hub: WebHub) -> None:
    tried = 0
    for method, path, rule in calls(full_hub.app):
        if path == "/login" and method == "POST":
            continue  # leads back to itself, see test_web_api_sessions
        answer = full_hub.browser().request(method, path)
        assert lets_in(answer) == (rule is public), (method, path, answer.status_code)
        tried += 1
    assert tried > 15


@pytest.mark.parametrize("role", list(Role))
def test_each_role_gets_in_where_its_rule_says_so(full_hub: WebHub, role: Role) -> None:
    visitor = full_hub.person(role)
    for method, path, rule in calls(full_hub.app):
        if not isinstance(rule, RequireRole) or path.endswith(("/session", "/logout")):
            continue
        answer = call(visitor, method, path, csrf=visitor.csrf)
        assert lets_in(answer) == (role in rule.roles), (method, path, answer.status_code)


def test_an_auditor_changes_nothing_and_a_researcher_neither(full_hub: WebHub) -> None:
    for method, path, rule in calls(full_hub.app):
        if isinstance(rule, RequireRole) and method not in _SAFE:
            own = path.endswith(("/session", "/logout", "/account/password"))
            assert own or rule.roles == {Role.OPERATOR}, (method, path)


def test_what_changes_something_wants_the_token_of_the_session(full_hub: WebHub) -> None:
    visitor, other = full_hub.person(Role.OPERATOR), "a token of another session"
    for method, path, rule in calls(full_hub.app):
        if isinstance(rule, RequireRole) and method not in _SAFE:
            for csrf in (None, "", other):
                answer = call(visitor, method, path, csrf=csrf)
                assert answer.status_code == 403, (method, path)


def test_a_session_is_no_signature(full_hub: WebHub) -> None:
    visitor = full_hub.person(Role.OPERATOR)
    for method, path, rule in calls(full_hub.app):
        if isinstance(rule, Signed):
            answer = call(visitor, method, path, csrf=visitor.csrf)
            assert answer.status_code == 401, (method, path)


def test_a_signature_is_no_session(full_hub: WebHub, member: SiteCaller) -> None:
    for method, path, rule in calls(full_hub.app):
        if isinstance(rule, RequireRole) and path.startswith("/api/v1"):
            answer = member.call(method, path.removeprefix("/api/v1"))
            assert answer.status_code == 401, (method, path)


def test_an_app_with_a_route_without_a_rule_does_not_start() -> None:
    def nothing() -> None:
        """A route."""

    def twice(
        _a: Annotated[Person, Depends(require_role(Role.OPERATOR))],
        _b: Annotated[None, Depends(public)],
    ) -> None:
        """A route."""

    for endpoint in (nothing, twice):
        app, router = FastAPI(openapi_url=None), APIRouter()
        router.add_api_route("/new", endpoint)
        app.include_router(router)
        with pytest.raises(RuntimeError, match=r"/new needs exactly one access rule"):
            check_rules(app)
    app = FastAPI(openapi_url=None)
    app.router.routes.append(Route("/raw", lambda _: PlainTextResponse("")))
    with pytest.raises(RuntimeError, match="rule"):
        check_rules(app)


def test_every_answer_has_the_security_fields(full_hub: WebHub) -> None:
    for path in ("/api/v1/hub?nonce=" + "n" * 22, "/nothing", "/login", "/api/v1/session"):
        answer = full_hub.browser().get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "server" not in answer.headers


def test_the_document_of_the_api_lists_it(full_hub: WebHub) -> None:
    document = full_hub.browser().get("/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.")
    documented = {path for path, _ in document["paths"].items()}
    assert {"/api/v1/join", "/api/v1/uploads", "/api/v1/uploads/{upload_id}/{name}"} <= documented
    for path in ("/docs", "/redoc", "/openapi.json"):  # their pages would load scripts from afar
        assert full_hub.browser().get(path).status_code == 404
