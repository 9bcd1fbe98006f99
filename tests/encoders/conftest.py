"""Small models on disk, and a guard that fails on any connection."""

from __future__ import annotations

import socket

import numpy as np
import pytest


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to resolve a name or to connect fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a connection was attempted: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def tiles() -> np.ndarray:
    """Four textured tiles uint8 (4, 256, 256, 3) with smooth colour and noise."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(0, 200, 256)[None, :, None, None] * np.ones((4, 1, 256, 3))
    return (ramp + rng.integers(0, 56, (4, 256, 256, 3))).astype(np.uint8)
