"""Bytes of an adapter round on the wire, beside the adapter's own file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from _counting import Relay, counting
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import save

from hub_server.acts import Acts
from hub_server.federation.local_sites import agent
from hub_server.federation.opening import open_round, watch_round
from hub_server.federation.places import Places
from hub_server.federation.preparing import prepare
from hub_server.federation.rounds import RoundFolder
from hub_server.federation.simulated_sites import SimulatedSite, join
from hub_server.federation.typed import served
from hub_server.home import HubHome
from pixcell_share.bundles import SiteKey
from pixcell_share.federation import Request, RoundKind, Sealed
from pixcell_share.federation.adapter_asks import LORA, AdapterAsk
from pixcell_share.federation.records import arrays_digest, pack
from pixcell_share.pixcell.lora import add_lora, lora_state
from pixcell_share.training.base import Base
from pixcell_share.training.stages import preset
from pixcell_share.training.start import build_model
from site_agent.federation.answering import answer
from site_agent.home import SiteHome
from tests.federation.own_tiles_site import draw_own_tiles, policy

Arrays = dict[str, np.ndarray]
EXCHANGES = 2
ASK = {
    "rounds": EXCHANGES, "steps": EXCHANGES, "epsilon": 8.0, "patients_per_step": 2,
    "tiles_per_patient": 1,
}  # fmt: skip
IDLE_S, SETTLE_S = 30.0, 20.0
PATIENTS = 6


def serialised(folder: Path) -> dict[str, Any]:
    """As Flower cuts a message into objects and sends each; for two sizes of generator."""
    for name in ("task_id", "run_id", "node_id"):
        setattr(TaskIdentity, f"_{name}", 1)  # messages can be made in a run alone
    site, hub = _site(folder), SiteKey.create(folder / "hub.key")
    base = Base.load("nano")
    asked = AdapterAsk(**ASK, base_sha256=base.sha256)
    common = _random({n: tuple(a.shape) for n, a in _lora_of(base.transformer).items()})
    request = Request("a" * 32, RoundKind.ADAPTER, asked.document(), 0, arrays_digest(common))
    sealed = Sealed.seal(request.document(), "request", hub)
    reply = answer(SiteHome(site.home), hub.key_id, RoundKind.ADAPTER, sealed, common)
    assert len(reply.arrays) == len(common), "the site trained nothing"
    found = {"nano": _both(sealed, common, reply.sealed, reply.arrays)}
    # Requests and records are as long for any generator; only the matrices are others.
    large = _random(_shapes_of_full_size())
    found["full-256"] = _both(sealed, large, reply.sealed, large)
    return found


def on_socket(folder: Path) -> dict[str, Any]:
    """A deployed round of one site, whose every byte passes a relay: TLS, HTTP and polling too."""
    hub, site = HubHome(folder / "hub"), _site(folder / "deployed")
    hub.initialise("hub", "https://localhost:8443")
    with (
        served(hub.folder, federation=True) as address,
        counting(urlsplit(address).port or 0) as relay,
    ):
        join(hub.folder, site, f"https://127.0.0.1:{relay.port}")
        with agent(site):
            time.sleep(SETTLE_S)
            idle = _rates(relay)
            before, began = _Passed.of(relay), time.monotonic()
            result = _round(hub)
            time.sleep(5)  # what follows the last answer
            passed, seconds = _Passed.of(relay) - before, time.monotonic() - began
    file = _file_bytes(_random({n: tuple(a.shape) for n, a in _lora_of(_nano()).items()}))
    each = {
        way: round((getattr(passed, way) - getattr(idle, way) * seconds) / EXCHANGES)
        for way in ("up", "down")
    }
    return {
        "exchanges": EXCHANGES,
        "adapter_bytes": result["bytes"],
        "adapter_file_bytes": file,
        "polling_bytes_per_s": {"up": round(idle.up, 1), "down": round(idle.down, 1)},
        "bytes_of_an_exchange": each,
        "over_file": {way: round(count / file, 3) for way, count in each.items()},
        "all_bytes_with_polling": {"up": passed.up, "down": passed.down},
        "seconds": round(seconds),
    }


@dataclass(frozen=True)
class _Passed:
    up: float
    down: float

    @classmethod
    def of(cls, relay: Relay) -> _Passed:
        return cls(relay.up, relay.down)

    def __sub__(self, other: _Passed) -> _Passed:
        return _Passed(self.up - other.up, self.down - other.down)


def _rates(relay: Relay) -> _Passed:
    """Bytes a second while nothing is asked."""
    before = _Passed.of(relay)
    time.sleep(IDLE_S)
    passed = _Passed.of(relay) - before
    return _Passed(passed.up / IDLE_S, passed.down / IDLE_S)


def _round(hub: HubHome) -> Mapping[str, Any]:
    words = {name: str(value) for name, value in ASK.items()}
    with Acts.opened(hub, "operator:benchmark") as acts:
        ask, arrays = prepare(acts, RoundKind.ADAPTER, words)
        made = open_round(acts, RoundKind.ADAPTER, ask, arrays, expected=1, wait_s=600)
    result = watch_round(RoundFolder(Places(hub).rounds / made.id)).result
    assert [each["counted"] for each in result["exchanges"]] == [["Site 1"]] * EXCHANGES
    return result


def _both(request: Sealed, sent: Arrays, reply: Sealed, came: Mapping[str, Any]) -> dict[str, Any]:
    file = _file_bytes(sent)
    ways = {"to_site": _bytes(request, sent), "to_hub": _bytes(reply, came)}
    return {
        "matrices": len(sent),
        "adapter_bytes": sum(array.nbytes for array in sent.values()),
        "adapter_file_bytes": file,
        **ways,
        "over_file": {way: round(each["bytes"] / file, 4) for way, each in ways.items()},
    }


def _bytes(sealed: Sealed, arrays: Mapping[str, Any]) -> dict[str, int]:
    """Of a message: all objects that Flower sends for it, and the tree that names them."""
    message = Message(pack(sealed, arrays), 1, RoundKind.ADAPTER.message_type)
    objects = get_all_nested_objects(message)
    tree = get_object_tree(message).ByteSize()
    whole = sum(len(each.deflate()) for each in objects.values())
    return {"bytes": whole + tree, "objects": len(objects)}


def _file_bytes(arrays: Arrays) -> int:
    return len(save({name.removeprefix(LORA): array for name, array in arrays.items()}))


def _site(folder: Path) -> SimulatedSite:
    folder.mkdir(exist_ok=True)
    tiles = draw_own_tiles(folder / "tiles", PATIENTS, 1)
    site = SimulatedSite("Site 1", folder / "site", tiles, None)
    home = SiteHome(site.home)
    home.initialise(site.name)
    home.config_file.write_text(home.config_file.read_text() + "\n" + policy(tiles))
    return site


def _nano() -> Any:
    return Base.load("nano").transformer


def _lora_of(transformer: Any) -> dict[str, torch.Tensor]:
    add_lora(transformer, AdapterAsk.rank, AdapterAsk.alpha)
    return lora_state(transformer)


def _shapes_of_full_size() -> dict[str, tuple[int, ...]]:
    """Of PixCell-256's LoRA; the generator has no memory of its own."""
    with torch.device("meta"):
        transformer = build_model(preset("paper", 256), 1536, 16)
    return {name: tuple(value.shape) for name, value in _lora_of(transformer).items()}


def _random(shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Flower sends equal arrays once, so they differ."""
    chance = np.random.default_rng(0)
    return {
        LORA + name: chance.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
