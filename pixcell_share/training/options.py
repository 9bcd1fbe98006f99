"""From the words of ``pixcell-train run`` to its settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from pixcell_share.errors import SettingsError
from pixcell_share.training.distributed import Sharding
from pixcell_share.training.latents import OnBad
from pixcell_share.training.loop import LoopSettings
from pixcell_share.training.settings import DataSettings, RunSettings
from pixcell_share.training.stages import StageSettings, preset

_CHOICES = {
    "sharding": ("ddp", "fsdp2"),
    "dtype": ("auto", "bf16", "fp32"),
    "on_bad_data": ("refuse", "skip"),
}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options as they are typed; None stands for the preset's.

    Raises:
        SettingsError: a word is not one of the known ones.
    """

    stage: int
    latents: tuple[str, ...]
    out: Path
    preset: str = "paper"
    init: Path | None = None
    steps: int | None = None
    global_batch: int | None = None
    micro_batch: int | None = None
    rate: float | None = None
    sharding: str = "ddp"
    dtype: str = "auto"
    compile: bool = False
    save_every: int = 1000
    keep_checkpoints: int = 3
    sample_every: int = 1000
    log_every: int = 10
    seed: int = 0
    device: str = "auto"
    on_bad_data: str = "refuse"
    buffer: int = 16_384
    vae: str | None = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                option = "--" + name.replace("_", "-")
                raise SettingsError(f"{option} is {value}", f"use one of {', '.join(known)}")

    def resolve(self) -> RunSettings:
        """The settings of the run.

        Raises:
            SettingsError: a value is out of range, or there is no such preset.
        """
        sources = tuple(parse_source(text) for text in self.latents)
        return RunSettings(
            stage=self._stage(),
            data=DataSettings(sources, cast(OnBad, self.on_bad_data), self.buffer, self.seed),
            out=self.out,
            init=self.init,
            loop=LoopSettings(
                bf16=self._bf16(),
                sharding=cast(Sharding, self.sharding),
                compile=self.compile,
                save_every=self.save_every,
                keep_checkpoints=self.keep_checkpoints,
                log_every=self.log_every,
                sample_every=self.sample_every,
            ),
            exact_micro_batch=self.micro_batch is not None,
            device=self.device,
            vae=self.vae,
        )

    def _stage(self) -> StageSettings:
        stage = preset(self.preset, self.stage)
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("steps", "global_batch", "micro_batch", "rate")
            if getattr(self, name) is not None
        }
        if self.rate is not None and stage.matrix_rate is not None:
            # Muon's rate keeps its ratio to the other weights'.
            given["matrix_rate"] = stage.matrix_rate * self.rate / stage.rate
        return replace(stage, **given)

    def _bf16(self) -> bool:
        if self.dtype != "auto":
            return self.dtype == "bf16"
        on_gpu = self.device.startswith("cuda") or self.device == "auto"
        return (on_gpu and torch.cuda.is_available()) or _cpu_multiplies_bf16()


def _cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16; without them it is the slower."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def parse_source(text: str) -> tuple[Path, int]:
    """``STORE`` or ``STORE:REPEAT``.

    Raises:
        SettingsError: the repeat is no number from 1.
    """
    head, colon, tail = text.rpartition(":")
    if not colon or not tail.lstrip("-").isdigit():
        return Path(text), 1
    if int(tail) < 1:
        raise SettingsError(f"--latents {text} repeats {tail} times", "repeat at least once")
    return Path(head), int(tail)
