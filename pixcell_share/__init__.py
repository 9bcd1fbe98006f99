"""pixcell-share: synthetic copies of pathology cohorts, checked and signed, for sharing."""

__version__ = "0.1.0"
