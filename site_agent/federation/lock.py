"""One agent for each site: two with the same node key would put each other out."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from pixcell_share.errors import SettingsError
from site_agent.federation.places import Places


@contextmanager
def only_agent(places: Places) -> Iterator[None]:
    """Hold the site's lock until the block ends; it vanishes with the process.

    Raises:
        SettingsError: another agent holds it.
    """
    places.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with places.agent_lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                "an agent of this site runs already", "see `pixcell-site status`"
            ) from error
        yield
