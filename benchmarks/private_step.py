"""What does differential privacy cost a step of LoRA training? At most twice the time.

Four steps on the same generator, LoRA and batch, turn by turn in one process, the median of each:

- *plain*: the mean loss of the tiles, backward, the gradient's norm clipped, AdamW.
- *private*: ours. Ghost norms by patient, clipped sum, noise from the keyed stream, AdamW.
- *opacus_hooks*: a gradient for each tile, added up by patient, clipped, noise, AdamW.
- *opacus_ghost*: its ghost mode with the *tile* as the unit; it cannot say that several tiles are
  one record. Two backward passes.

Before any is timed, ours and the sums of opacus' gradients have to agree. Processor time is given
beside wall time, since other jobs of a busy machine do not change it. Random latents, one thread.
``full-256`` and ``full-1024`` are of the released size with random weights.

    python benchmarks/private_step.py [--device cpu]
    python benchmarks/private_step.py --device cuda --model full-256 --patients 16

Writes benchmarks/results/private_step_<model>_<device>_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from _private_peers import ghost_step, wrap
from _results import write_result
from torch import Tensor, nn

from pixcell_share.pixcell.lora import add_lora
from pixcell_share.training.adapt import lora_stage
from pixcell_share.training.base import Base
from pixcell_share.training.batch import Batch
from pixcell_share.training.batches import map_tensors
from pixcell_share.training.objective import DiffusionObjective
from pixcell_share.training.optimizers import build_optimizers
from pixcell_share.training.peaks import device_name
from pixcell_share.training.private.gradients import PatientGradients, PatientTiles
from pixcell_share.training.private.noise import noised_mean
from pixcell_share.training.private.stream import SecretStream
from pixcell_share.training.run import prepare_attention
from pixcell_share.training.stages import StageSettings, preset
from pixcell_share.training.start import build_model

CLIP, NOISE = 0.05, 1.0
"""So small that most patients are clipped, and the noise multiplier; neither changes the time."""


@dataclass(frozen=True)
class Case:
    """One row."""

    patients: int
    tiles: int
    """Of each patient."""
    bf16: bool


def build(name: str) -> tuple[nn.Module, StageSettings]:
    """A packaged generator, or one of the released size with random weights."""
    if not name.startswith("full-"):
        base = Base.load(name)
        return base.transformer, lora_stage(base, batch=1, micro_batch=1, steps=1)
    paper = preset("paper", int(name.removeprefix("full-")))
    objective = replace(paper.objective, learned_variance=False)
    stage = replace(paper, global_batch=1, micro_batch=1, objective=objective, ema=0.0)
    return build_model(stage, 1536, 16), stage


class Side:
    """A generator with a LoRA of its own under training.

    Args:
        name: of the generator.
        case: the row.
        device: where it is computed.
    """

    def __init__(self, name: str, case: Case, device: torch.device) -> None:
        model, stage = build(name)
        add_lora(model)
        move_off_zero(model)
        prepare_attention(model, stage, device)
        self.case, self.device = case, device
        self.model = model.to(device).train()
        self.objective = DiffusionObjective(stage.objective, device)
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        (self.optimizer,) = build_optimizers(model, stage)

    def step(self, tiles: PatientTiles) -> None:
        """Learn from a batch."""
        raise NotImplementedError

    def follow(self, gradients: dict[str, Tensor]) -> None:
        """One step of AdamW along them."""
        for name, value in gradients.items():
            self.trained[name].grad = value
        self.optimizer.step()
        self.optimizer.zero_grad()

    def moved(self, tiles: PatientTiles) -> Batch:
        """The tiles on the device."""
        return map_tensors(tiles.batch, lambda tensor: tensor.to(self.device, non_blocking=True))

    def loss(self, model: nn.Module, tiles: PatientTiles) -> Tensor:
        """Mean over the tiles."""
        batch = self.moved(tiles)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.case.bf16):
            return self.objective(model, batch).total


class Plain(Side):
    """As `pixcell-train adapt` without an epsilon."""

    def step(self, tiles: PatientTiles) -> None:
        """The mean's gradient, its norm clipped."""
        self.loss(self.model, tiles).backward()
        nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()


class Private(Side):
    """As `pixcell-train adapt --dp-epsilon`."""

    def __init__(self, name: str, case: Case, device: torch.device) -> None:
        super().__init__(name, case, device)
        self.gradients = PatientGradients(self.model, self.objective, CLIP, bf16=case.bf16)
        self._stream, self._steps = SecretStream(bytes(32), "benchmark"), 0

    def step(self, tiles: PatientTiles) -> None:
        """The noised mean over patients."""
        self._steps += 1
        self.follow(
            noised_mean(
                self.gradients(tiles).total, deviation=NOISE * CLIP, expected=self.case.patients,
                stream=self._stream, step=self._steps,
            )
        )  # fmt: skip


class OpacusHooks(Side):
    """Opacus' `GradSampleModule`, a gradient for each tile."""

    def __init__(self, name: str, case: Case, device: torch.device) -> None:
        super().__init__(name, case, device)
        self._wrapped = wrap(self.model)

    def total(self, tiles: PatientTiles) -> dict[str, Tensor]:
        """The clipped sum over patients."""
        self.loss(self._wrapped, tiles).backward()
        owners = tiles.owners.to(self.device)
        found = {}
        for name, weight in self.trained.items():
            each = weight.grad_sample.float()
            sums = each.new_zeros(tiles.patients, *each.shape[1:]).index_add_(0, owners, each)
            found[name] = sums / self.case.tiles
            weight.grad_sample = weight.grad = None
        squared = torch.stack([value.flatten(1).square().sum(1) for value in found.values()])
        factors = (CLIP / squared.sum(0).sqrt()).clamp(max=1)
        return {name: torch.einsum("p,p...->...", factors, each) for name, each in found.items()}

    def step(self, tiles: PatientTiles) -> None:
        """The same from torch's own noise."""
        self.follow({
            name: (value + torch.randn_like(value) * NOISE * CLIP) / self.case.patients
            for name, value in self.total(tiles).items()
        })  # fmt: skip


class OpacusGhost(Side):
    """Opacus' ghost mode, which clips each tile by itself."""

    def __init__(self, name: str, case: Case, device: torch.device) -> None:
        super().__init__(name, case, device)
        self._step = ghost_step(
            self.model, self.optimizer, self.objective, clip=CLIP, noise=NOISE,
            expected=case.patients * case.tiles, bf16=case.bf16,
        )  # fmt: skip

    def step(self, tiles: PatientTiles) -> None:
        """Two backward passes, noise, AdamW."""
        self._step(self.moved(tiles))


def move_off_zero(model: nn.Module) -> None:
    """At its start a LoRA's second matrix is zero, and the first one's gradient with it."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.05, generator=draw)


def random_tiles(case: Case, model: nn.Module) -> PatientTiles:
    """The same number of tiles of each patient."""
    config, draw = model.config, torch.Generator().manual_seed(0)
    count, side = case.patients * case.tiles, config.sample_size
    shape = (count, config.in_channels, side, side)
    tokens = (count, config.caption_num_tokens, config.caption_channels)
    batch = Batch(
        latents=torch.randn(shape, generator=draw),
        condition=torch.randn(tokens, generator=draw),
        noise=torch.randn(shape, generator=draw),
        timesteps=torch.randint(0, 1000, (count,), generator=draw),
        dropped=torch.rand(count, generator=draw) < 0.1,
        weights=torch.ones(count),
        positions=torch.arange(count),
    )
    owners = torch.arange(case.patients).repeat_interleave(case.tiles)
    return PatientTiles(batch, owners, case.patients)


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Norm of the difference, relative to the norm."""
    one, other = (torch.cat([side[name].flatten() for name in ours]) for side in (ours, theirs))
    return float((one - other).norm() / other.norm())


def timed(step: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Wall and processor seconds of a step."""
    began, spent = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - spent


def take_turns(
    sides: dict[str, Side], tiles: PatientTiles, device: torch.device, repeats: int
) -> list[dict[str, float]]:
    """Medians of wall and of processor seconds of each side."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for repeat in range(repeats + 2):
        for name, side in sides.items():
            seconds = timed(lambda side=side: side.step(tiles), device)
            if repeat >= 2:  # the first two warm up
                times[name].append(seconds)
    return [
        {n: round(statistics.median(pair[kind] for pair in each), 4) for n, each in times.items()}
        for kind in (0, 1)
    ]


def measure(case: Case, arguments: argparse.Namespace) -> dict:
    """One row of the result."""
    device, name = torch.device(arguments.device), arguments.model
    tiles = random_tiles(case, build(name)[0])
    plain, ours = Plain(name, case, device), Private(name, case, device)
    hooks, ghost = OpacusHooks(name, case, device), OpacusGhost(name, case, device)
    found = ours.gradients(tiles)
    apart = difference(found.total, hooks.total(tiles))
    assert apart < (2e-2 if case.bf16 else 1e-4), f"the sums differ by {apart}"
    sides = {"plain": plain, "private": ours, "opacus_hooks": hooks, "opacus_ghost": ghost}
    wall, processor = take_turns(sides, tiles, device, arguments.repeats)
    return {
        "patients": case.patients,
        "tiles_of_each": case.tiles,
        "dtype": "bf16" if case.bf16 else "fp32",
        "clipped": round(float((found.norms > CLIP).float().mean()), 3),
        "sums_differ_by": float(f"{apart:.2g}"),
        "median_s": wall,
        "processor_s": processor,
        "over_plain": ratios(wall),
        "over_plain_processor": ratios(processor),
    }


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """To the plain step."""
    return {name: round(value / medians["plain"], 3) for name, value in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default="nano", help="nano, nano-1024, full-256 or full-1024")
    parser.add_argument("--patients", type=int, help="default: 8 on a CPU, 32 on a GPU")
    parser.add_argument("--tiles", type=int, action="append", help="of each; default: 1 and 4")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Full backward hook")
    gpu = arguments.device == "cuda"
    if not gpu:
        torch.set_num_threads(arguments.threads)
    patients = arguments.patients or (32 if gpu else 8)
    rows = []
    for tiles in arguments.tiles or (1, 4):
        for bf16 in (False, True):
            rows.append(measure(Case(patients, tiles, bf16), arguments))
            print(rows[-1], flush=True)
    result = {
        "device": device_name(torch.device(arguments.device)),
        "model": arguments.model,
        "threads": torch.get_num_threads(),
        "repeats": arguments.repeats,
        "rows": rows,
    }
    name = f"private_step_{arguments.model}_{arguments.device}"
    print(write_result(name, result, ("torch", "opacus", "peft")))


if __name__ == "__main__":
    main()
