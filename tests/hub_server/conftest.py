"""A hub's home, and its registry on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hub_server.home import HubHome
from hub_server.registry import DatabaseSettings, Registry, sqlite_url
from hub_server.registry.accounts import AccountSettings
from hub_server.registry.columns import Base
from pixcell_share.bundles import SiteKey
from tests.hub_server.page_calls import PageHub, build, copied
from tests.hub_server.page_hub import Furnished
from tests.hub_server.postgres import INSTALL, PostgresServer
from tests.hub_server.web_calls import BASE, CHEAP, SiteCaller, WebHub

_PATIENCE = DatabaseSettings(patience_s=60)


@pytest.fixture
def hub_home(tmp_path: Path) -> HubHome:
    """A home that `pixcell-hub init` has just made."""
    home = HubHome(tmp_path / "hub")
    home.initialise("Hub of the tests", "https://localhost:8443")
    return home


@pytest.fixture
def accounts_settings() -> AccountSettings:
    """argon2 at its cheapest."""
    return AccountSettings(argon2_time=1, argon2_memory_kib=8, argon2_lanes=1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL, one for each worker of pytest."""
    programs = PostgresServer.find()
    if programs is None:
        pytest.skip(INSTALL)
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_database(postgres: PostgresServer) -> str:
    """The URL of a database with the hub's tables."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE pixcell")
    registry = Registry(postgres.url("pixcell"))
    registry.upgrade()
    registry.close()
    return postgres.url("pixcell")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the hub's tables, to be copied."""
    path = tmp_path_factory.mktemp("registry") / "template.db"
    registry = Registry(sqlite_url(path))
    registry.upgrade()
    registry.close()
    return path


@pytest.fixture
def sqlite_registry(sqlite_template: Path, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry in SQLite."""
    registry = Registry(sqlite_url(shutil.copy(sqlite_template, tmp_path / "hub.db")), _PATIENCE)
    yield registry
    registry.close()


@pytest.fixture
def postgres_registry(postgres_database: str) -> Iterator[Registry]:
    """An empty registry in PostgreSQL."""
    registry = Registry(postgres_database, _PATIENCE)
    yield registry
    registry.close()
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with psycopg.connect(postgres_database) as connection:
        connection.execute(f"TRUNCATE {tables}")


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest) -> Registry:
    """An empty registry; each test that asks for it runs on both databases."""
    name = "sqlite_registry" if request.param == "sqlite" else "postgres_registry"
    found: Registry = request.getfixturevalue(name)
    return found


@pytest.fixture(scope="session")
def web_template(tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    """A hub's home with cheap passwords, to be copied."""
    home = HubHome(tmp_path_factory.mktemp("web") / "hub")
    home.initialise("Hub of the tests", BASE)
    with home.config_file.open("a") as file:
        file.write(CHEAP)
    return home


@pytest.fixture
def web_hub(web_template: HubHome, tmp_path: Path) -> Iterator[WebHub]:
    """A hub that answers within this process."""
    hub = WebHub(HubHome(Path(shutil.copytree(web_template.folder, tmp_path / "web-hub"))))
    yield hub
    hub.state.registry.close()


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    """A site's."""
    return SiteKey.create(tmp_path_factory.mktemp("key") / "site.key")


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    """Another site's, or its next."""
    return SiteKey.create(tmp_path_factory.mktemp("key") / "other.key")


@pytest.fixture
def member(web_hub: WebHub, key: SiteKey) -> SiteCaller:
    """The site ``hospital-a``, admitted."""
    return web_hub.member("hospital-a", key)


@pytest.fixture(scope="session")
def page_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[HubHome, Furnished]:
    """A hub with something on each page, to be copied."""
    return build(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="session")
def read_hub(
    page_template: tuple[HubHome, Furnished], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageHub]:
    """A furnished hub that tests only look at."""
    hub = copied(page_template, tmp_path_factory.mktemp("read"))
    yield hub
    hub.web.state.registry.close()


@pytest.fixture
def page_hub(page_template: tuple[HubHome, Furnished], tmp_path: Path) -> Iterator[PageHub]:
    """A furnished hub that a test may change."""
    hub = copied(page_template, tmp_path)
    yield hub
    hub.web.state.registry.close()
