"""The hub's records: members, accounts, cohorts, encoders, jobs.

`Registry` gives units of work; the functions of `sites`, `accounts`, `cohorts`, `encoders`,
`leaderboard` and `jobs` take one and are the only ones that change a state.
"""

from hub_server.registry.database import DatabaseSettings, Registry, sqlite_url
from hub_server.registry.tables import (
    Account,
    Cohort,
    CohortState,
    Encoder,
    EncoderSource,
    Evaluation,
    Job,
    JobKind,
    JobState,
    KeyState,
    Role,
    Site,
    SiteKeyRow,
    SiteState,
    SourceRole,
)

__all__ = [
    "Account",
    "Cohort",
    "CohortState",
    "DatabaseSettings",
    "Encoder",
    "EncoderSource",
    "Evaluation",
    "Job",
    "JobKind",
    "JobState",
    "KeyState",
    "Registry",
    "Role",
    "Site",
    "SiteKeyRow",
    "SiteState",
    "SourceRole",
    "sqlite_url",
]
