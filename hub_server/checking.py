"""Verify a bundle, with a progress bar where somebody watches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pixcell_share.bundles import (
    Requirement,
    VerifiedBundle,
    load_public_key,
    verify_bundle,
)


def verify(
    bundle: Path, trust: Sequence[Path], requirements: Sequence[Requirement] = ()
) -> VerifiedBundle:
    """Check ``bundle`` against the public keys in the files ``trust``.

    Args:
        bundle: its folder.
        trust: files with public keys of sites.
        requirements: what its audit must show beyond its own verdict.

    Raises:
        KeyFileError: a file of ``trust`` is not a public key.
        BundleError: the bundle is refused; see `pixcell_share.bundles.verify_bundle`.
    """
    keys = [load_public_key(path) for path in trust]
    columns = (TextColumn("verify"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    terminal = Console(stderr=True)
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as progress:
        task = progress.add_task("", total=_total_bytes(bundle))
        return verify_bundle(
            bundle,
            keys,
            on_bytes=lambda count: progress.advance(task, count),
            requirements=requirements,
        )


def _total_bytes(bundle: Path) -> int | None:
    """For the bar only; what cannot be looked at is left to `verify_bundle` to name."""
    try:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(bundle))
    except OSError:
        return None
