"""What the intake lets pass: the table ``[intake]`` of hub.toml."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pixcell_share.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class IntakeSettings:
    """Limits; shares are of a cohort's tiles, from 0 to 1. What lies below one is only noted."""

    tiles: int = 3_000_000
    """Tiles of one cohort. The intake keeps 24 bytes of each while it looks at them, and about 150
    of each while it books their digests: half a gigabyte in all."""
    key_days: float = 730.0
    """A site's key older than that signs nothing new: the site rotates it."""
    constant_share: float = 0.01
    """Tiles of one colour."""
    blank_share: float = 0.25
    """Tiles that are bright and have next to no contrast: glass."""
    repeated_share: float = 0.01
    """Tiles that are there already, within the cohort, pixel for pixel."""
    alike_share: float = 0.25
    """Tiles that look like another of the cohort at 8 x 8 cells."""
    own_repeats_share: float = 0.99
    """Tiles that one accepted cohort of the same site has too. A site that makes a larger cohort
    of the same slides draws the same tiles again, so many may be known."""
    other_repeats_share: float = 0.01
    """Tiles that one cohort of another site has too, accepted or withdrawn."""
    withdrawn_back_share: float = 0.99
    """Of the tiles of a cohort that the same site withdrew, those that come back. What is left when
    some were taken out may come again; more has to be allowed where one patient is less than this
    leaves out."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = (0, 1) if field.name.endswith("_share") else (1, float("inf"))
            if not low <= value <= high:
                raise SettingsError(
                    f"intake.{field.name} must be {low} to {high}", "mend it in hub.toml"
                )
