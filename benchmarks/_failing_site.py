"""A site's client app that fails where a plan says so, and is the real one everywhere else.

Flower's simulation loads it in place of `site_agent.federation.client_app`. A site that is killed
works in a process of its own, which kills itself at the planned stage: a dead worker of Ray would
stay dead, and take every later message of its pool with it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from flwr.app import Context, Message

from pixcell_share.federation import RoundKind
from pixcell_share.federation.records import unpack
from pixcell_share.training.private import answer as training
from site_agent.federation import answering
from site_agent.federation.client_app import SiteApp
from site_agent.federation.kept import Kept
from site_agent.federation.where import site_home
from site_agent.home import SiteHome
from site_agent.hub_link import HubLink

PLAN = "PIXCELL_FAILING_SITES"
"""Names the plan: JSON, ``{step: {number of the site: [way, stage]}}``. Beside it lies what was
sent out in each step, and how often each site was asked."""
KILLED, DOWN, RAISES, LOST = "killed", "down", "raises", "lost"
"""Killed and back at once; killed and away for the step; an exception; an answer that never
arrives."""
STAGES: dict[str, tuple[Any, str]] = {
    "read": (answering, "_opened"),
    "charged": (training, "charge"),
    "trained": (training, "train_private_lora"),
    "kept": (Kept, "keep"),
}
"""What is done when it fails: the last thing that it did."""

_PATIENCE_S = 60.0


class NodeGoneError(Exception):
    """What Flower's node reports of a client app that died."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong."""

    way: str
    stage: str

    @classmethod
    def of(cls, step: int, number: int) -> Fault | None:
        """Of a site in a step; None if all goes well."""
        found = json.loads(Path(os.environ[PLAN]).read_text()).get(str(step), {}).get(str(number))
        return cls(*found) if found else None


class FailingSite(SiteApp):
    """The site's app, with faults."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer, or fail as planned."""
        number = int(context.node_config["partition-id"])
        sealed, arrays = unpack(message.content)
        step = int(json.loads(sealed.payload)["step"])
        _note_sent(step, arrays)
        first, fault = _first_time(step, number), Fault.of(step, number)
        if fault is None or (fault.way == KILLED and not first):
            return super().__call__(message, context)
        if fault.way in (KILLED, DOWN):
            if first:
                _die(site_home(context.node_config), message, fault.stage)
            raise NodeGoneError
        if fault.way == RAISES:
            with cut_after(fault.stage, _raise):
                return super().__call__(message, context)
        reply = super().__call__(message, context)
        reply.metadata.__dict__["_reply_to_message_id"] = "lost"  # which no SuperLink takes
        return reply


app = FailingSite()


@contextmanager
def cut_after(stage: str, fail: Callable[[], NoReturn]) -> Iterator[None]:
    """Fail when ``stage`` is done, until the block ends."""
    owner, name = STAGES[stage]
    whole = getattr(owner, name)

    def cut(*given: Any, **more: Any) -> None:
        whole(*given, **more)
        fail()

    setattr(owner, name, cut)
    try:
        yield
    finally:
        setattr(owner, name, whole)


def _die(home: SiteHome, message: Message, stage: str) -> None:
    """Have the request answered by a process that is killed at ``stage``."""
    sealed, arrays = unpack(message.content)
    kind, hub = RoundKind.of(message.metadata.message_type), HubLink.load(home).hub_key_id
    child = os.fork()  # a start from nothing would import torch for seconds
    if child == 0:
        try:
            with cut_after(stage, _kill):
                answering.answer(home, hub, kind, sealed, arrays)
        finally:
            os._exit(1)
    end_at = time.monotonic() + _PATIENCE_S
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end_at:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    assert os.WTERMSIG(ended[1]) == signal.SIGKILL, f"it ended with {ended[1]}"


def _note_sent(step: int, arrays: dict[str, np.ndarray]) -> None:
    path = Path(os.environ[PLAN]).with_name(f"sent-{step}.npz")
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.rename(path)


def _first_time(step: int, number: int) -> bool:
    asked = Path(os.environ[PLAN]).with_name(f"asked-{step}-{number}")
    try:
        asked.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _raise() -> NoReturn:
    raise RuntimeError("planned, at /a/path/of/the/site")


def _kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
