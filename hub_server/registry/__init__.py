"""The hub's records: members, accounts, cohorts, encoders, jobs.

`Registry` gives units of work; the functions of `sites`, `accounts`, `cohorts`, `encoders`,
`leaderboard` and `jobs` take one and are the only ones that change a state.
"""

from hub_server.registry.database import DatabaseSettings, Registry, sqlite_url
from hub_server.registry.states import (
    CohortState,
    JobKind,
    JobState,
    KeyState,
    Role,
    SiteState,
    SourceRole,
)
from hub_server.registry.tables import (
    Account,
    Cohort,
    Encoder,
    EncoderSource,
    Evaluation,
    Job,
    Site,
    SiteKeyRow,
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
