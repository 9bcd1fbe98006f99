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
    ├── AuditError                    the privacy audit cannot be computed from what it was given
    ├── LedgerError                   the ledger was edited, rolled back, or the clock set back
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
    """A bundle is not what it claims to be."""

    code = "bundle"


class SignatureError(BundleError):
    """No valid signature by a trusted key."""

    code = "signature"


class DigestError(BundleError):
    """A file is missing, extra, or differs from the signed digest."""

    code = "digest"


class FormatError(BundleError):
    """A field or a dataset breaks the bundle format."""

    code = "format"


class AuditError(PixcellError):
    """The privacy audit cannot be computed from what it was given; nothing is signed."""

    code = "audit"


class LedgerError(PixcellError):
    """The ledger of releases is not what this site wrote, or its time runs backwards."""

    code = "ledger"


class ReleaseRefusedError(PixcellError):
    """The privacy checks refused the release; nothing was signed."""

    code = "refused"
    exit_code = 4
