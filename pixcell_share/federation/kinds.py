"""What a hub may ask of its sites. Each kind is one message type of Flower's Message API."""

from __future__ import annotations

from enum import StrEnum


class RoundKind(StrEnum):
    """A kind of round; a site allows or refuses each by itself."""

    COHORT = "cohort"
    """A signed synthetic cohort of the site's own slides."""
    ADAPTER = "adapter"
    """A step of federated fine-tuning: LoRA weights, with differential privacy by patient."""
    ENCODER = "encoder"
    """How good an encoder is on the site's own labelled tiles: figures only."""
    PROBE = "probe"
    """A step of federated training of a linear probe."""

    @property
    def message_type(self) -> str:
        """As Flower routes it: a category, a dot, and the kind."""
        return f"{_CATEGORY[self]}.{self.value}"

    @classmethod
    def of(cls, message_type: str) -> RoundKind | None:
        """The kind of a message; None if it is none of ours."""
        return next((kind for kind in cls if kind.message_type == message_type), None)


_CATEGORY = {
    RoundKind.COHORT: "query",
    RoundKind.ADAPTER: "train",
    RoundKind.ENCODER: "evaluate",
    RoundKind.PROBE: "train",
}
