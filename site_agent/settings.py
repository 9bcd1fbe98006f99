"""Everything that a person can set for `pixcell-site synthesize`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell import SamplerSettings
from pixcell_share.slides import TilingSettings, TissueSettings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Part:
    """Part ``index`` of ``count`` of a run, both counted from 1 as in ``--array 2/8``."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``2/8``.

        Raises:
            SettingsError: it is not of that form, or the first exceeds the second.
        """
        first, slash, second = text.partition("/")
        if not (slash and first.isdigit() and second.isdigit()) or not (
            1 <= int(first) <= int(second)
        ):
            raise SettingsError(
                f"--array {text} is not a part of a run", "write it as 2/8: the second of eight"
            )
        return cls(int(first), int(second))

    def takes(self, position: int) -> bool:
        """Whether the slide at ``position`` in the sorted list belongs to this part."""
        return position % self.count == self.index - 1


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """One run of the main job: from a folder of slides to a signed bundle."""

    slides: Path | None = None
    """Folder of whole-slide images, sub-folders included, or one slide."""
    tiles: Path | None = None
    """Folder of tiles as picture files, in place of slides."""
    out: Path
    """Work folder: private stores, report and bundle."""
    table: Path | None = None
    """CSV: ``slide,mpp,case_id,label`` of slides; of tiles, ``file`` and the two columns below."""
    patient_column: str = "case_id"
    """Column of a table of tiles that names the patient."""
    label_column: str = "label"
    """Column of a table of tiles that names the class."""
    mpp: float | None = None
    """µm/px of slides that do not carry it."""
    coords: Path | None = None
    """Folder of existing TRIDENT ``*_patches.h5`` files."""
    features: Path | None = None
    """Folder of existing TRIDENT feature files of the chosen encoder."""
    tiling: TilingSettings = TilingSettings()
    """Tile size, target µm/px, and which tiles are kept."""
    tissue: TissueSettings = TissueSettings()
    """How tissue is told from glass."""
    model: str = "nano"
    """``nano``, a local folder, or a Hub repository."""
    vae: str | None = None
    """Folder or repository of the VAE, where the model's folder holds none."""
    encoder: str | None = None
    """Name in the encoder registry; by default the one that the model was trained with."""
    weights: str | None = None
    """Folder or repository of the encoder's weights."""
    trust_remote_code: bool = False
    """Let an encoder that ships as code (KEEP) run that code."""
    holdout: float = 0.2
    """Share of the patients that is set aside: they condition nothing and are the control group."""
    mix: int = 1
    """Condition on a combination of tiles of this many patients; 1 is each tile by itself."""
    dp_epsilon: float | None = None
    """Condition on differentially private statistics of the embeddings, with this epsilon."""
    dp_delta: float = 1e-5
    """The delta that goes with it; below one in the number of patients."""
    audit_encoder: str | None = None
    """Encoder of the audit, another than the one that conditions; None chooses one."""
    audit_weights: str | None = None
    """Folder or repository of its weights."""
    trained_on: tuple[Path, ...] = ()
    """Latent stores that the generator was trained on, where it was trained on the site's tiles."""
    per_tile: int = 1
    """Synthetic tiles for each conditioning tile."""
    max_tiles: int | None = None
    """At most this many conditioning tiles for each slide, chosen with the site's key."""
    max_redraws: int = 3
    """New draws for a tile that comes too close to a real one, before it is dropped."""
    sampler: SamplerSettings = SamplerSettings()
    """Steps, guidance scale, batch size, and what makes it faster."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    dtype: str = "auto"
    """``fp32``, ``bf16``, ``fp16``; ``auto`` is bf16 on a GPU, and on a CPU that has it."""
    part: Part | None = None
    """Do only this part, up to the generated tiles."""
    stores: Path | None = None
    """Work folder whose stores of real tiles are shared, in place of those in ``out``."""

    def __post_init__(self) -> None:
        """Refuse what cannot work before any slide is opened."""
        if self.per_tile < 1 or (self.max_tiles is not None and self.max_tiles < 1):
            raise SettingsError("--per-tile and --max-tiles start at 1", "leave it out for all")
        if self.dtype not in {"auto", *DTYPES}:
            raise SettingsError(
                f"--dtype {self.dtype} is not known", f"one of: auto, {', '.join(DTYPES)}"
            )
        if not 0 < self.holdout <= 0.5:
            raise SettingsError(
                f"--holdout {self.holdout:g} is not above 0 and at most 0.5",
                "leave it out for 0.2: without patients set aside nothing can be signed",
            )
        self._check_conditioning()
        self._check_input()

        if self.audit_weights is not None and self.audit_encoder is None:
            raise SettingsError(
                "--audit-weights needs --audit-encoder", "name the encoder that they belong to"
            )

    def _check_conditioning(self) -> None:
        if self.mix < 1:
            raise SettingsError(f"--mix {self.mix} is no number of patients", "1 mixes nothing")
        if self.dp_epsilon is None:
            return
        if not (self.dp_epsilon > 0 and 0 < self.dp_delta < 1):
            raise SettingsError(
                "--dp-epsilon must be above 0, and --dp-delta between 0 and 1",
                "3 and 1e-5 are usual",
            )
        if self.mix > 1:
            raise SettingsError(
                "--mix and --dp-epsilon exclude each other",
                "statistics of a whole class hold more patients than any mixture: leave --mix out",
            )

    def _check_input(self) -> None:
        given = [path for path in (self.slides, self.tiles) if path is not None]
        if len(given) != 1:
            raise SettingsError("give either --slides or --tiles", "name one folder")
        if not given[0].exists():
            raise SettingsError(f"there is no {given[0]}", "name the folder that holds the images")

    @property
    def mode(self) -> str:
        """How the cohort is conditioned, in a sentence for reports."""
        if self.dp_epsilon is not None:
            return (
                f"Each tile was made from differentially private statistics of its class "
                f"(epsilon {self.dp_epsilon:g}, delta {self.dp_delta:g}, per patient)."
            )
        if self.mix > 1:
            return f"Each tile was made from a mixture of tiles of {self.mix} patients."
        return "Each tile was made from the embedding of one real tile of one patient."

    @property
    def encoder_name(self) -> str:
        """The encoder that conditions: `nano`'s own for `nano`, else UNI2-h."""
        return self.encoder or ("nano" if self.model in {"nano", "nano-1024"} else "uni2h")

    @property
    def torch_device(self) -> torch.device:
        """The device that ``device`` means on this machine.

        Raises:
            SettingsError: CUDA was asked for and is not here.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise SettingsError(
                f"--device {self.device} is not a device", "use auto, cpu, cuda or cuda:N"
            ) from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise SettingsError("there is no CUDA GPU on this machine", "use --device cpu or auto")
        return device

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format that ``dtype`` means on this device."""
        if self.dtype == "auto":
            fast = self.torch_device.type == "cuda" or _cpu_multiplies_bf16()
            return torch.bfloat16 if fast else torch.float32
        return DTYPES[self.dtype]

    def identity(self) -> dict[str, Any]:
        """The settings that decide the bytes of the result: not the paths, not the part.

        A batch size of None is found for the device, and then pinned to the run.
        """
        return {
            "model": _public_name(self.model),
            "vae": _public_name(self.vae),
            "encoder": self.encoder_name,
            "tiling": asdict(self.tiling),
            "tissue": asdict(self.tissue),
            "given_coords": self.coords is not None,
            "given_features": self.features is not None,
            "holdout": self.holdout,
            "mix": self.mix,
            "dp_epsilon": self.dp_epsilon,
            "dp_delta": None if self.dp_epsilon is None else self.dp_delta,
            "audit_encoder": self.audit_encoder,
            "per_tile": self.per_tile,
            "max_tiles": self.max_tiles,
            "max_redraws": self.max_redraws,
            "steps": self.sampler.steps,
            "guidance_scale": self.sampler.guidance_scale,
            "batch_size": self.sampler.batch_size,
            "device": self.torch_device.type,
            "dtype": str(self.torch_dtype).removeprefix("torch."),
            # Only those in use, so that work folders of earlier versions go on.
            **self.sampler.options(),
        }


def _cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16: half the time or less for the generator."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _public_name(model: str | None) -> str | None:
    """A repository's name; a folder may be moved, and its weights are pinned by their digest."""
    return "a local folder" if model and model != "nano" and Path(model).exists() else model
