"""The slides, or sets of tiles, of a run."""

from __future__ import annotations

from pixcell_share.slides import SlideRecord, find_slides, find_tile_sets
from site_agent.settings import SynthesisSettings

UNLABELLED = "unlabelled"
"""The class of slides that no table labels."""


def find_records(settings: SynthesisSettings) -> list[SlideRecord]:
    """What the run works on, sorted by ``slide_id``.

    Raises:
        SettingsError: there is none, or the table is wrong.
    """
    if settings.tiles is not None:
        return find_tile_sets(
            settings.tiles,
            settings.table,
            patient=settings.patient_column,
            label=settings.label_column,
            mpp=settings.mpp,
        )
    assert settings.slides is not None
    return find_slides(settings.slides, table=settings.table, mpp=settings.mpp)


def patient_of(record: SlideRecord) -> str:
    """The patient of a slide: the table's, or the slide itself where no table names one."""
    return record.case_id or record.slide_id
