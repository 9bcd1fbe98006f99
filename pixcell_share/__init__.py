"""pixcell-share: synthetic copies of pathology cohorts, checked and signed, for sharing."""

import os

# Read by huggingface_hub when it is imported, also by way of diffusers and transformers.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
