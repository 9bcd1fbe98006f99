"""The agent's log: a file of the site, with the words that the hub is never told."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_BYTES, _FILES = 5_000_000, 3


def log_to(path: Path) -> None:
    """Write what this program logs to ``path``; old files are kept beside it, three of them."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_BYTES, backupCount=_FILES)
    handler.setFormatter(logging.Formatter(_FORM))
    logger = logging.getLogger("site_agent")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
