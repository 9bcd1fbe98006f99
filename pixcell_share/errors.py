"""Every error that a person can meet, in one tree.

::

    PixcellError                      exit 1
    ├── SettingsError                 exit 2  an option, a table or site.toml is wrong
    │   └── WorkFolderError           exit 2  the work folder belongs to other settings
    ├── SlideError                    per slide: it is left out with its reason, the run goes on
    │   ├── SlideUnreadableError      truncated, empty, or not a slide
    │   ├── MppMissingError           no µm/px in the file, the table, or the options
    │   ├── NotBrightfieldError       fluorescence, or no stain on a bright ground
    │   └── NoTissueError             nothing left after tissue and quality masks
    ├── WeightsError
    │   ├── WeightsMissingError       not in the folder, not in the cache, and no download allowed
    │   ├── WeightsGatedError         the hub asks for an account that accepted the terms
    │   └── WeightsMismatchError      the files are there and hold another model
    ├── DataError                     a store of training data is incomplete or damaged
    ├── LossError                     a training loss was NaN or infinite: nothing was applied
    ├── StorageError                  disk full, no permission
    ├── KeyFileError                  a key is missing, unreadable, or readable by others
    ├── BundleError                   the bundle is not what its signature says
    │   ├── SignatureError            no valid signature by the trusted key
    │   ├── DigestError               a file is missing, extra, or changed
    │   └── FormatError               a field or a dataset breaks the format
    ├── HubError                      the hub said no
    │   ├── HubUnreachableError       no connection, for longer than one waits
    │   ├── HubTrustError             its key or its certificate is not the one expected
    │   ├── MembershipError           the code, the key or the site is not admitted
    │   ├── UploadError               a file or a piece of it is not taken
    │   ├── NotFoundError             no such site, cohort, encoder, job or account
    │   └── StateError                not in the state that it is in: a replay, a second admission
    ├── AuditError                    the privacy audit cannot be computed from what it was given
    ├── LedgerError                   the ledger was edited, rolled back, or the clock set back
    ├── HubLogError                   the hub's log was edited, cut, forked or rolled back
    ├── DatabaseError                 the hub's database does not answer
    └── ReleaseRefusedError           exit 4  the privacy checks refused the release

An error says the plain cause and what to do next; commands print both and end with
``exit_code``. A traceback is shown only with ``--debug``.
"""

from __future__ import annotations

from typing import ClassVar


class PixcellError(Exception):
    """A failure that a person can act on.

    Args:
        cause: what is wrong, in one plain sentence, naming the file or the option.
        remedy: what to do next, in one plain sentence.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy

    def diagnostics(self) -> dict[str, str]:
        """The error as ``--json`` prints it: code, cause and remedy."""
        return {"code": self.code, "cause": self.cause, "remedy": self.remedy}


class SettingsError(PixcellError):
    """An option, a table or a settings file is wrong."""

    code = "settings"
    exit_code = 2


class WorkFolderError(SettingsError):
    """The work folder was made with other settings."""

    code = "work_folder"


class SlideError(PixcellError):
    """One slide cannot be used; the run goes on without it."""

    code = "slide"


class SlideUnreadableError(SlideError):
    """The file is truncated, empty, unreadable, or not a slide."""

    code = "unreadable"


class MppMissingError(SlideError):
    """No µm/px in the file, the slide table, or the options."""

    code = "mpp_missing"


class NotBrightfieldError(SlideError):
    """The slide is not a stained section on a bright ground."""

    code = "not_brightfield"


class NoTissueError(SlideError):
    """No tile is left after the tissue and quality masks."""

    code = "no_tissue"


class WeightsError(PixcellError):
    """A model's weights cannot be used."""

    code = "weights"


class WeightsMissingError(WeightsError):
    """The weights are not on this machine and no download was asked for or possible."""

    code = "weights_missing"


class WeightsGatedError(WeightsError):
    """The weights need an account that accepted their terms."""

    code = "weights_gated"


class WeightsMismatchError(WeightsError):
    """The files hold another model than the one asked for."""

    code = "weights_mismatch"


class DataError(PixcellError):
    """A store of training data is incomplete or damaged; names the shard or the row."""

    code = "data"


class LossError(PixcellError):
    """A loss or a gradient was NaN or infinite; the run stopped before applying it."""

    code = "loss"


class StorageError(PixcellError):
    """The disk is full or a folder cannot be written."""

    code = "storage"


class KeyFileError(PixcellError):
    """A key is missing, unreadable, or open to other users."""

    code = "key"


class BundleError(PixcellError):
    """A bundle is not what it claims to be.

    Args:
        cause: as always.
        remedy: as always.
        reason: a code for programs that never changes: a `pixcell_share.bundles.Fault`.
    """

    code = "bundle"

    def __init__(self, cause: str, remedy: str, reason: str) -> None:
        super().__init__(cause, remedy)
        self.reason = reason

    def diagnostics(self) -> dict[str, str]:
        """With the reason."""
        return {**super().diagnostics(), "reason": str(self.reason)}


class SignatureError(BundleError):
    """No valid signature by a trusted key."""

    code = "signature"


class DigestError(BundleError):
    """A file is missing, extra, or differs from the signed digest."""

    code = "digest"


class FormatError(BundleError):
    """A field or a dataset breaks the bundle format."""

    code = "format"


class HubError(PixcellError):
    """A hub refused what it was asked.

    Args:
        cause: as always.
        remedy: as always.
        reason: why, as a word of `pixcell_share.wire.Refusal`; takes the place of ``code``.
    """

    code = "hub"

    def __init__(self, cause: str, remedy: str = "", reason: str = "") -> None:
        super().__init__(cause, remedy)
        self.reason = reason

    def diagnostics(self) -> dict[str, str]:
        """The error as ``--json`` and the hub's API print it."""
        return {**super().diagnostics(), "code": self.reason or self.code}


class HubUnreachableError(HubError):
    """The hub did not answer for longer than the caller waits."""

    code = "hub_unreachable"


class HubTrustError(HubError):
    """The hub's key or certificate is not the one that is expected; nothing was sent."""

    code = "hub_trust"


class MembershipError(HubError):
    """The invitation, the key or the site is unknown, not admitted yet, or revoked."""

    code = "membership"


class UploadError(HubError):
    """A file, or a piece of one, cannot be taken as it was sent."""

    code = "upload"


class NotFoundError(HubError):
    """The hub knows no such site, cohort, encoder, job or account."""

    code = "not_found"


class StateError(HubError):
    """It cannot be done in the state that the thing is in."""

    code = "state"


class AuditError(PixcellError):
    """The privacy audit cannot be computed from what it was given; nothing is signed."""

    code = "audit"


class LedgerError(PixcellError):
    """The ledger of releases is not what this site wrote, or its time runs backwards."""

    code = "ledger"


class HubLogError(PixcellError):
    """The hub's log is not what the hub wrote."""

    code = "hub_log"


class DatabaseError(PixcellError):
    """The hub's database does not answer."""

    code = "database"


class ReleaseRefusedError(PixcellError):
    """The privacy checks refused the release; nothing was signed."""

    code = "refused"
    exit_code = 4
