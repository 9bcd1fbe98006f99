"""Find a model's files: a local folder, then the Hugging Face cache, then a download.

Nothing is downloaded unless the user named a repository that is not on this machine, and
nothing at all when ``HF_HUB_OFFLINE`` is set. Each failure says at which page to ask for the
weights, which variable carries the token, and that ``--weights`` takes a local folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pixcell_share import __version__
from pixcell_share.errors import WeightsGatedError, WeightsMissingError

__all__ = [
    "Located",
    "ModelIdentity",
    "access_token",
    "digest_files",
    "find_local",
    "is_repo_id",
    "locate",
    "offline",
]

LOCAL_SOURCE = "local"
PACKAGE_SOURCE = "pixcell-share package"
TOKEN_VARIABLE = "HF_TOKEN"

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SNAPSHOT = re.compile(
    r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]+)$"
)
_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights were used, and under which terms: what a bundle says about a model."""

    role: str
    """``generator``, ``vae``, ``encoder``, or ``adapter`` for a LoRA."""
    name: str
    """The model's name in this program, such as ``uni2h``."""
    source: str
    """A repository id, ``local`` or ``pixcell-share package``: never a path."""
    revision: str
    """The commit of the repository, the version of this package, or ``local``."""
    licence: str
    """The terms, as an SPDX identifier where one exists."""
    noncommercial: bool
    """Whether the terms forbid commercial use."""
    sha256: str
    """`digest_files` of the weight files."""


@dataclass(frozen=True)
class Located:
    """A folder on this machine that holds a model's files."""

    folder: Path
    source: str
    """A repository id, ``local`` or ``pixcell-share package``."""
    revision: str
    """The commit of the repository, the version of this package, or ``local``."""


def locate(
    path_or_repo: str,
    *,
    patterns: Sequence[str],
    required: Sequence[str] = (),
    page: str | None = None,
) -> Located:
    """Find the folder with a model's files, downloading them only as the last resort.

    Args:
        path_or_repo: a folder, a file (its folder is meant), or a repository id
            ``owner/name`` of the Hugging Face Hub.
        patterns: glob patterns, relative to the folder, of the files that may be used; at least
            one file must match one of them. Only matching files are downloaded.
        required: patterns that must each match a file; a cached copy without them is incomplete.
        page: where to ask for the weights; by default the repository's own page.

    Raises:
        WeightsMissingError: not on this machine, and the download was not possible.
        WeightsGatedError: the Hub wants an account that accepted the terms.
    """
    found = find_local(path_or_repo, patterns=patterns, required=required)
    if found is not None:
        return found
    page = page or _page_of(path_or_repo)
    if not is_repo_id(path_or_repo):
        raise _missing(_why_not_local(path_or_repo, [*required, *patterns]), page)
    folder = _download(path_or_repo, [*patterns, *required], page)
    if not _holds(folder, patterns, required):
        names = ", ".join([*required, *patterns])
        raise _missing(f"the repository {path_or_repo} holds none of {names}", page)
    return _described(folder, path_or_repo)


def find_local(
    path_or_repo: str, *, patterns: Sequence[str], required: Sequence[str] = ()
) -> Located | None:
    """As `locate`, without the network: None where the files are not on this machine."""
    path = Path(path_or_repo).expanduser()
    if path.exists():
        folder = path if path.is_dir() else path.parent
        return _described(folder) if _holds(folder, patterns, required) else None
    if not is_repo_id(path_or_repo):
        return None
    cached = _cached(path_or_repo, [*patterns, *required])
    if cached is None or not _holds(cached, patterns, required):
        return None
    return _described(cached, path_or_repo)


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 of one weight file, or of the sorted ``sha256sum`` lines of several.

    A single file gives the digest that the Hugging Face Hub shows for it. Folders do not count,
    so that the same files give the same digest wherever they lie.
    """
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append((path.name, hashlib.file_digest(stream, "sha256").hexdigest()))
    if len(digests) == 1:
        return digests[0][1]
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def is_repo_id(name: str) -> bool:
    """Whether ``name`` has the form ``owner/name`` of a Hugging Face repository."""
    return _REPO_ID.fullmatch(name) is not None and not name.startswith(".")


def _page_of(path_or_repo: str) -> str | None:
    return f"https://huggingface.co/{path_or_repo}" if is_repo_id(path_or_repo) else None


def _holds(folder: Path, patterns: Sequence[str], required: Sequence[str]) -> bool:
    # Patterns are tried one by one: the folder may be a home folder with millions of files.
    return any(_matches(folder, p) for p in patterns) and all(_matches(folder, p) for p in required)


def _matches(folder: Path, pattern: str) -> bool:
    return any(path.is_file() for path in folder.glob(pattern))


def _described(folder: Path, repo: str | None = None) -> Located:
    """Name the source: a Hub snapshot is recognised even when it was given as a path."""
    resolved = folder.resolve()
    snapshot = _SNAPSHOT.search(folder.absolute().as_posix())
    if snapshot is not None:
        repo = repo or f"{snapshot['owner']}/{snapshot['name']}"
        return Located(folder, repo, snapshot["commit"])
    if resolved.is_relative_to(_PACKAGE):
        return Located(folder, PACKAGE_SOURCE, __version__)
    return Located(folder, LOCAL_SOURCE, LOCAL_SOURCE)


def _hub() -> Any:
    """The `huggingface_hub` module with its usage reports off, also if imported before."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    hub = import_module("huggingface_hub")
    import_module("huggingface_hub.constants").__dict__["HF_HUB_DISABLE_TELEMETRY"] = True
    return hub


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids every download, also those from elsewhere."""
    # The library reads the variable when it is imported; a person may set it later.
    now = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    return now or bool(import_module("huggingface_hub.constants").HF_HUB_OFFLINE)


def access_token() -> str | None:
    """The token of ``HF_TOKEN``, or the one that ``hf auth login`` stored."""
    token = _hub().get_token()
    return str(token) if token else None


def _cached(repo: str, patterns: list[str]) -> Path | None:
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo, allow_patterns=patterns, local_files_only=True))
    except (OSError, ValueError, hub.errors.EntryNotFoundError):
        return None  # not cached, or an interrupted download


def _download(repo: str, patterns: list[str], page: str | None) -> Path:
    hub = _hub()
    if offline():
        raise _missing(f"{repo} is not on this machine, and HF_HUB_OFFLINE is set", page)
    errors = hub.errors
    try:
        return Path(hub.snapshot_download(repo, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise _gated(repo, page) from error
    except errors.HfHubHTTPError as error:
        if error.response.status_code in {401, 403}:
            raise _gated(repo, page) from error
        raise _missing(f"{repo} could not be downloaded: {_first_line(error)}", page) from error
    except (OSError, ValueError, errors.EntryNotFoundError, errors.HTTPError) as error:
        raise _missing(f"{repo} could not be downloaded: {_first_line(error)}", page) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _why_not_local(path: str, patterns: Sequence[str]) -> str:
    if Path(path).expanduser().exists():
        return f"{path} holds none, or not all, of {', '.join(patterns)}"
    return f"{path} is neither a folder on this machine nor a repository id such as owner/name"


def _missing(cause: str, page: str | None) -> WeightsMissingError:
    where = (
        f"get the weights from {page} (with an access token in {TOKEN_VARIABLE}), or "
        if page
        else ""
    )
    return WeightsMissingError(cause, f"{where}name the folder that holds them with --weights")


def _gated(repo: str, page: str | None) -> WeightsGatedError:
    return WeightsGatedError(
        f"{repo} is only for accounts that accepted its terms (or does not exist)",
        f"accept the terms at {page}, put an access token of that account into {TOKEN_VARIABLE}, "
        "and run again; or name a folder that already holds the weights with --weights",
    )
