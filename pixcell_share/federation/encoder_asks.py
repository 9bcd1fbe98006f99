"""What rounds about encoders ask for: figures on a site's own labelled tiles, or a common probe."""

from __future__ import annotations

from dataclasses import dataclass

from pixcell_share.errors import SettingsError
from pixcell_share.federation.asks import Ask

ENCODER, PROBE = "encoder.", "probe."
"""How the names of the arrays of an encoder, and of a probe, begin."""
_MOST_PX = 1024


@dataclass(frozen=True, kw_only=True)
class OwnTilesAsk(Ask):
    """Which encoder looks at which tiles."""

    architecture: str = "tiny"
    """A name of `pixcell_share.ssl.ARCHITECTURES`; the weights come along as arrays."""
    encoder_sha256: str = ""
    """Digest of these arrays. A site that has seen them needs no second copy."""
    input_px: int = 64
    """Side of the image that the encoder sees."""
    classes: str = ""
    """Labels with commas between them, in the common order; empty: the site's own."""
    tiles_per_patient: int = 32
    """At most; which ones is the site's secret."""

    def __post_init__(self) -> None:
        if not (1 <= self.input_px <= _MOST_PX and 1 <= self.tiles_per_patient <= 10_000):
            raise SettingsError("input_px or tiles_per_patient is out of range", "ask for less")
        names = self.labels
        if len(set(names)) != len(names) or not all(names):
            raise SettingsError("a class is named twice, or has no name", "name each once")

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes; none where the site's own are meant."""
        return tuple(self.classes.split(",")) if self.classes else ()


@dataclass(frozen=True, kw_only=True)
class EncoderAsk(OwnTilesAsk):
    """An encoder round: how good is this encoder on your tiles?"""

    tasks: str = "knn,linear_probing"
    """Protocols with commas between them."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols."""
        return tuple(self.tasks.split(","))


@dataclass(frozen=True, kw_only=True)
class ProbeAsk(OwnTilesAsk):
    """A common linear probe, trained in exchanges; see `pixcell_share.evaluation.ProbeSettings`."""

    rounds: int = 5
    """Exchanges between the hub and the sites."""
    steps: int = 20
    """Of a site in an exchange."""
    rate: float = 0.01
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.rounds <= 1000:
            raise SettingsError("rounds are not 1 to 1000", "ask for 5")
        if len(self.labels) < 2:
            raise SettingsError("a common probe needs common classes", "name two or more")
