"""What a round takes along: the weights of an encoder, the digest of a generator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from hub_server.acts import Acts
from hub_server.federation.opening import parse_ask
from hub_server.registry.encoders import find_encoder
from hub_server.storage import Storage
from pixcell_share.errors import SettingsError
from pixcell_share.federation import RoundKind
from pixcell_share.federation.encoder_asks import ENCODER
from pixcell_share.federation.records import arrays_digest

Arrays = dict[str, NDArray[np.generic]]


def prepare(
    acts: Acts, kind: RoundKind, words: Mapping[str, str], encoder: str | None = None
) -> tuple[dict[str, Any], Arrays]:
    """What is asked, and what goes along with the first step.

    Args:
        acts: whose hub.
        kind: of the round.
        words: what a person set, as `parse_ask` takes it.
        encoder: the hub's encoder that rounds of encoders and probes are about.

    Raises:
        SettingsError: an entry cannot be, or an encoder is missing, or is not one of ours.
        NotFoundError: there is no such encoder.
        WeightsError: the generator of an adapter round is not on this machine.
    """
    if kind is RoundKind.ADAPTER:
        return _with_base(parse_ask(kind, words)), {}
    if kind is RoundKind.COHORT:
        return parse_ask(kind, words), {}
    if encoder is None:
        raise SettingsError(f"a {kind} round needs an encoder", "give --encoder NAME")
    fields, weights = _encoder(acts, encoder)
    asked = parse_ask(kind, {**fields, **words})
    return asked, {ENCODER + name: value for name, value in weights.items()}


def _with_base(ask: dict[str, Any]) -> dict[str, Any]:
    from pixcell_share.training.base import Base

    return {**ask, "base_sha256": Base.load(ask["model"]).sha256}


def _encoder(acts: Acts, name: str) -> tuple[dict[str, str], Arrays]:
    """The fields that say which encoder, and its weights."""
    from pixcell_share.ssl import ARCHITECTURES

    with acts.registry.reading() as session:
        found = find_encoder(session, name)
        arch, folder = found.arch, found.folder
    if arch not in ARCHITECTURES:
        raise SettingsError(
            f"{name} is a {arch}, which sites cannot build", "name an encoder trained by this hub"
        )
    storage = acts.home.storage()
    weights: Arrays = dict(load(_bytes(storage, f"{folder}/model.safetensors")))
    config = json.loads(_bytes(storage, f"{folder}/timm/config.json"))
    fields = {
        "architecture": arch,
        "encoder_sha256": arrays_digest(weights),
        "input_px": str(config["input_px"]),
    }
    return fields, weights


def _bytes(storage: Storage, key: str) -> bytes:
    with storage.get(key) as stream:
        return stream.read()
