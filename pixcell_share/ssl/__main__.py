"""``python -m pixcell_share.ssl job.json``, also under ``torchrun`` and ``srun``."""

from __future__ import annotations

import sys
from pathlib import Path

from pixcell_share.errors import PixcellError
from pixcell_share.progress import choose_view
from pixcell_share.ssl.job import read_job
from pixcell_share.ssl.train import train_encoder


def main(arguments: list[str]) -> int:
    """Run one job; the exit code of the errors' table."""
    if len(arguments) != 1:
        print("usage: python -m pixcell_share.ssl job.json", file=sys.stderr)
        return 2
    try:
        job = read_job(Path(arguments[0]))
        with choose_view() as view:
            trained = train_encoder(job.settings, job.sources, job.out, view, name=job.name)
    except PixcellError as error:
        print(f"{error.cause}\n{error.remedy}", file=sys.stderr)
        return error.exit_code
    if trained.stopped:
        print(f"stopped and saved after step {trained.step:,}: the same command goes on")
    elif trained.folder is not None:
        print(f"{trained.folder}: encoder after {trained.step:,} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
