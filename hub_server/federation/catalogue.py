"""What may be asked in each kind of round."""

from __future__ import annotations

from pixcell_share.federation import Ask, CohortAsk, RoundKind
from pixcell_share.federation.adapter_asks import AdapterAsk
from pixcell_share.federation.encoder_asks import EncoderAsk, ProbeAsk

ASKS: dict[RoundKind, type[Ask]] = {
    RoundKind.COHORT: CohortAsk,
    RoundKind.ADAPTER: AdapterAsk,
    RoundKind.ENCODER: EncoderAsk,
    RoundKind.PROBE: ProbeAsk,
}
"""By kind; one that is not here cannot be asked."""
