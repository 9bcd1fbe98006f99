"""The processes of one run: who they are, what they agree on, and how the model is spread.

Started alone, by ``torchrun``, or by ``srun`` with ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``,
``MASTER_ADDR`` and ``MASTER_PORT`` set. One process without sharding needs no process group.
"""

from __future__ import annotations

import contextlib
import os
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.device import resolve_device

Sharding = Literal["ddp", "fsdp2"]


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run."""

    rank: int
    """From 0 to ``world`` - 1; 0 writes and speaks."""
    world: int
    """Number of processes."""
    device: torch.device
    """Where this process computes."""
    writers: Any = None
    """A gloo group of its own for checkpoints, which are written beside the steps."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """The sum of every rank's ``values``, in place; equal bits on every rank."""
        if dist.is_initialized() and self.world > 1:
            dist.all_reduce(values)
        return values

    def share(self, value: Any) -> Any:
        """Rank 0's ``value``, on every rank."""
        if not dist.is_initialized() or self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.writers)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's ``value``, in the order of the ranks, on every rank."""
        if not dist.is_initialized() or self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.writers)
        return values

    def wait(self) -> None:
        """Return when every rank has come here."""
        if dist.is_initialized() and self.world > 1:
            dist.barrier(group=self.writers)


@contextlib.contextmanager
def joined(device: str, *, sharding: Sharding = "ddp") -> Iterator[Ranks]:
    """Join the run that the environment describes, and leave it at the end.

    Args:
        device: ``auto`` (a GPU of its own for each rank where there is one), ``cpu``, ``cuda``
            or ``cuda:N``.
        sharding: ``fsdp2`` needs a process group even for one process.

    Raises:
        SettingsError: half of the variables are set, or no such device.
    """
    rank, world, local = _environment()
    target = _device(device, local)
    if target.type == "cuda":
        torch.cuda.set_device(target)
    if world == 1 and sharding == "ddp":
        yield Ranks(0, 1, target)
        return
    if world == 1:
        _be_alone()
    backend = "cpu:gloo,cuda:nccl" if target.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world)
    yield Ranks(rank, world, target, dist.new_group(backend="gloo"))
    # Not after an error: the others may be waiting in the middle of a sum.
    dist.destroy_process_group()


def _environment() -> tuple[int, int, int]:
    """Rank, world size and rank within the node."""
    present = [name for name in ("RANK", "WORLD_SIZE") if name in os.environ]
    if len(present) == 1:
        raise SettingsError(
            f"{present[0]} is set in the environment but not its pair",
            "set both RANK and WORLD_SIZE (torchrun does), or neither for one process",
        )
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    return rank, world, int(os.environ.get("LOCAL_RANK", 0))


def _device(name: str, local: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return resolve_device(f"cuda:{local}" if name == "cuda" else name)


def _be_alone() -> None:
    """Give a single process what a process group asks for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(port))


def spread(model: nn.Module, ranks: Ranks, *, sharding: Sharding, bf16: bool) -> nn.Module:
    """The model as the ranks run it together; its gradients are means over the ranks.

    Args:
        model: on the device of this rank; for ``fsdp2`` its blocks are split in place.
        ranks: of the run.
        sharding: ``ddp``: every rank holds all weights. ``fsdp2``: weights, gradients, optimizer
            state and average are split, block by block (``transformer_blocks``).
        bf16: gather split weights in bfloat16; the kept ones, and the sums, stay float32.
    """
    if sharding == "fsdp2":
        low = torch.bfloat16 if bf16 else None
        policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
        for block in getattr(model, "transformer_blocks", []):
            fully_shard(block, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
        return model
    if ranks.world == 1:
        return model
    on = [ranks.device.index] if ranks.device.type == "cuda" else None
    with warnings.catch_warnings():
        # From torch 2.14 on the option has a new name, which older ones do not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            model, device_ids=on, broadcast_buffers=False, gradient_as_bucket_view=True
        )


@contextlib.contextmanager
def summing(model: nn.Module, *, last: bool) -> Iterator[None]:
    """Add up gradients over the ranks only after the ``last`` micro-batch of a step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        yield
    elif isinstance(model, DistributedDataParallel) and not last:
        with model.no_sync():
            yield
    else:
        yield


def local(value: Tensor) -> Tensor:
    """The part of a split tensor that lies on this rank; it shares the memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """A split tensor put together on every rank (all ranks must call), else the tensor itself."""
    return value.full_tensor() if isinstance(value, DTensor) else value
