"""The intake: what a stranger's bundle passes through before anybody may use it.

`intake_folder` and `intake_upload` run the state machine of `machine`; `withdraw` ends a cohort.
`open_shards` reads what was accepted, and `check_summary` what the hub signed about it.
"""

from hub_server.intake.canonical import CanonicalFile, CanonicalShard, files_of, open_shards
from hub_server.intake.outcome import IntakeOutcome
from hub_server.intake.reasons import Reason
from hub_server.intake.summary import VerificationSummary, check_stored_files, check_summary
from hub_server.intake.ways_in import intake_folder, intake_upload, resume
from hub_server.intake.withdrawal import finish_withdrawals, withdraw
from hub_server.intake_settings import IntakeSettings

__all__ = [
    "CanonicalFile",
    "CanonicalShard",
    "IntakeOutcome",
    "IntakeSettings",
    "Reason",
    "VerificationSummary",
    "check_stored_files",
    "check_summary",
    "files_of",
    "finish_withdrawals",
    "intake_folder",
    "intake_upload",
    "open_shards",
    "resume",
    "withdraw",
]
