"""What site.toml allows, and when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from pixcell_share.errors import SettingsError
from pixcell_share.federation import RoundKind
from site_agent.federation.policy import FederationPolicy
from site_agent.home import SiteHome


def test_nothing_is_allowed_unless_it_is_written(tmp_path: Path) -> None:
    home = SiteHome(tmp_path)
    home.initialise("hospital-a")
    assert not any(home.config().federation.allows(kind) for kind in RoundKind)
    home.config_file.write_text('site = "a"\n[federation]\nrounds = ["cohort"]\n')
    policy = home.config().federation
    assert [kind for kind in RoundKind if policy.allows(kind)] == [RoundKind.COHORT]


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-17:30", "17:29", "17:30"),
        ("19:00-06:30", "00:00", "06:30"),
        ("19:00-06:30", "19:00", "18:59"),
    ],
)
def test_working_hours_may_pass_midnight(hours: str, inside: str, outside: str) -> None:
    policy = FederationPolicy(hours=hours)
    for time, works in ((inside, True), (outside, False)):
        assert policy.works_at(datetime.fromisoformat(f"2026-11-27T{time}")) is works


@pytest.mark.parametrize(
    "entry",
    [
        'rounds = ["shell"]',
        'hours = "late"',
        'hours = "25:00-26:00"',
        "tiles_per_class = 0",
        "epsilon = 0",
        'slides = "a"\ntiles = "b"',
        "more = 1",
    ],
)
def test_a_wrong_entry_is_refused_before_the_agent_starts(tmp_path: Path, entry: str) -> None:
    home = SiteHome(tmp_path)
    home.config_file.write_text(f"[federation]\n{entry}\n")
    with pytest.raises(SettingsError):
        home.config()
