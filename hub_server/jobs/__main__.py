"""``python -m hub_server.jobs HOME JOB``: a worker for one job, also under ``torchrun``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from hub_server.home import HubHome
from hub_server.jobs.ranks import do_job
from pixcell_share import startup
from pixcell_share.errors import PixcellError


def main(arguments: list[str]) -> int:
    """Do the job; the exit code of the errors' table."""
    if len(arguments) != 2:
        print("usage: python -m hub_server.jobs HOME JOB", file=sys.stderr)
        return 2
    startup.start()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    try:
        do_job(HubHome(Path(arguments[0])), arguments[1], f"local-{os.getpid()}")
    except PixcellError as error:
        print(f"{error.cause}\n{error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
