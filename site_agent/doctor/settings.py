"""What the doctor is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """The run that a person has in mind; the fields are those of `pixcell-site synthesize`."""

    slides: Path | None = None
    """Folder of whole-slide images; None leaves them unexamined."""
    tiles: Path | None = None
    """Folder of tiles as picture files, in place of slides."""
    table: Path | None = None
    """CSV: ``slide,mpp,case_id,label`` of slides; of tiles, ``file`` and the two columns below."""
    patient_column: str = "case_id"
    """Column of a table of tiles that names the patient."""
    label_column: str = "label"
    """Column of a table of tiles that names the class."""
    mpp: float | None = None
    """µm/px of slides that do not carry it."""
    model: str = "nano"
    """``nano``, a local folder, or a Hub repository."""
    encoder: str | None = None
    """Name in the encoder registry; by default nano's own for nano, else UNI2-h."""
    weights: str | None = None
    """Folder, file or repository of the encoder's weights."""
    vae: str | None = None
    """Folder or repository of the VAE, where the model's folder holds none."""
    trust_remote_code: bool = False
    """Let an encoder that ships as code (KEEP) run that code."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    out: Path
    """Work folder of the run to come."""
    home: Path
    """The site's home folder, with its key."""

    @property
    def encoder_name(self) -> str:
        """The encoder that would condition the generator."""
        return self.encoder or ("nano" if self.model == "nano" else "uni2h")
