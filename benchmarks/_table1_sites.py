"""The synthetic cohort of a site: `pixcell-site synthesize` with nano, audit and signature.

The commands are the ones that a data manager types, in a process of their own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = (sys.executable, "-c", "from site_agent.cli import main; main()")
_NOT_RELEASED = 4
_LIMITS = re.compile(r"^(retrieval_excess|linkage_residual) = .*$", re.MULTILINE)


@dataclass(frozen=True)
class CohortSettings:
    """How a cohort is drawn."""

    tiles_per_group: int = 2
    """Real tiles of a group that condition one synthetic tile each."""
    steps: int = 10
    """Of the sampler; the default of `pixcell-site` is 20."""
    mix: int = 5
    """Patients behind each synthetic tile: with one, linkage finds a third of the groups again."""
    model: str = "nano"
    """The generator, as ``--model`` takes it."""
    encoder: str = "nano"
    """The encoder that conditions."""
    lifted: bool = False
    """Whether cohorts are kept that a site's usual limits of linkage and retrieval refuse."""


@dataclass(frozen=True)
class SyntheticCohort:
    """Where it lies, and what the gate said."""

    bundle: Path
    outcome: dict[str, Any]
    """What ``--json`` printed."""


def make_cohort(site: str, tiles: Path, work: Path, settings: CohortSettings) -> SyntheticCohort:
    """Draw, audit and sign; the same call goes on where it stopped.

    Raises:
        SystemExit: the run failed, or the gate refused to sign: then there is no cohort, and the
            benchmark ends with what the gate said.
    """
    home, out, said = work / "home", work / "run", work / "outcome.json"
    if said.exists():
        return SyntheticCohort(out / "bundle", json.loads(said.read_text()))
    if not (home / "site.key").exists():
        _pixcell_site("init", "--site", f"site-{site.lower()}", "--home", str(home))
        if settings.lifted:
            _lift_limits(home / "site.toml")
    outcome = _pixcell_site(
        *("synthesize", "--home", str(home), "--out", str(out), "--tiles", str(tiles)),
        *("--table", str(tiles / "tiles.csv"), "--max-tiles", str(settings.tiles_per_group)),
        *("--steps", str(settings.steps), "--mix", str(settings.mix), "--model", settings.model),
        *("--encoder", settings.encoder, "--json"),
    )
    said.write_text(json.dumps(outcome, indent=2) + "\n")
    return SyntheticCohort(out / "bundle", outcome)


def _lift_limits(config: Path) -> None:
    text, found = _LIMITS.subn(r"\1 = 1.0", config.read_text())
    assert found == 2
    config.write_text(text)


def _pixcell_site(*words: str) -> dict[str, Any]:
    done = subprocess.run([*_PROGRAM, *words], stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == _NOT_RELEASED:
        raise SystemExit(f"the gate refused the cohort: {last}")
    if done.returncode not in (0, 3):
        raise SystemExit(f"pixcell-site {words[0]} ended with {done.returncode}: {last}")
    return dict(json.loads(last)) if "--json" in words else {}
