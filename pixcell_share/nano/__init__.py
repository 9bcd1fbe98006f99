"""The embedded default model: a small VAE, encoder and PixCell transformer, and their training.

``weights/`` holds a diffusers-style folder; ``weights/CARD.md`` says what it was trained on and
how good it is. It is for trying and testing.
"""

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
"""The packaged model: ``vae/``, ``transformer/``, ``scheduler/`` and ``encoder/``."""

__all__ = ["WEIGHTS"]
