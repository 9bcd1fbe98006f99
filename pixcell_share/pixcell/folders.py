"""Where the parts of a generator lie: its own folder, and the VAE's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.errors import WeightsError, WeightsMissingError
from pixcell_share.pixcell.identity import VAE_REPO, identify
from pixcell_share.pixcell.load import WEIGHTS, read_json
from pixcell_share.weights import Located, ModelIdentity, locate

NANO = "nano"
_NANO_FOLDER = Path(__file__).resolve().parents[1] / "nano" / "weights"
_FILES = ("config.json", f"{WEIGHTS}*.safetensors")


@dataclass(frozen=True)
class GeneratorFolders:
    """The folders of one generator, all on this machine."""

    root: Path
    """Holds ``transformer/`` and ``scheduler/``, and perhaps ``model_index.json``."""
    vae: Path
    """Holds the VAE's config and weights."""
    identities: tuple[ModelIdentity, ...]
    """The generator's, then the VAE's."""

    @property
    def guidance_scale(self) -> float | None:
        """``guidance_scale`` of ``model_index.json``: what the model's maker found best."""
        index = self.root / "model_index.json"
        value = read_json(index).get("guidance_scale") if index.is_file() else None
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise WeightsError(f"guidance_scale in {index} is {value!r}", "make it a number from 0")
        return float(value)


def find_folders(path_or_repo: str, vae: str | None) -> GeneratorFolders:
    """Find a generator, and the VAE: the one asked for, else its own, else SD3.5's.

    Args:
        path_or_repo: ``nano``, a diffusers folder, or a repository id.
        vae: a folder that holds the VAE or has it in its sub-folder ``vae``, or a repository
            with such a sub-folder.

    Raises:
        WeightsMissingError: a part is not on this machine and cannot be downloaded.
        WeightsGatedError: a repository asks for an account that accepted its terms.
    """
    name = _nano_folder() if path_or_repo == NANO else path_or_repo
    required = [f"transformer/{file}" for file in _FILES]
    with _option("--model"):
        generator = locate(name, patterns=_generator_patterns(), required=required)
    transformer = generator.folder / "transformer"
    vae_located, vae_folder = _find_vae(generator, vae)
    identities = (
        identify("generator", generator, transformer),
        identify("vae", vae_located, vae_folder),
    )
    return GeneratorFolders(generator.folder, vae_folder, identities)


def _nano_folder() -> str:
    if not _NANO_FOLDER.is_dir():
        raise WeightsMissingError(
            "this copy of pixcell-share was packaged without the nano weights",
            "install a release, or train them with `pixcell-train nano`",
        )
    return str(_NANO_FOLDER)


def _find_vae(generator: Located, vae: str | None) -> tuple[Located, Path]:
    if vae is None and (generator.folder / "vae" / "config.json").is_file():
        return generator, generator.folder / "vae"
    name = VAE_REPO if vae is None else vae
    itself = (Path(name).expanduser() / "config.json").is_file()
    part = "." if itself else "vae"
    files = [file if itself else f"vae/{file}" for file in _FILES]
    with _option("--vae"):
        located = locate(name, patterns=files, required=files)
    return located, located.folder / part


def _generator_patterns() -> list[str]:
    parts = [f"{part}/{file}" for part in ("transformer", "vae") for file in _FILES]
    return ["model_index.json", "README.md", "scheduler/scheduler_config.json", *parts]


@contextmanager
def _option(name: str) -> Iterator[None]:
    """Let a remedy name the option that belongs to this part, not ``--weights``."""
    try:
        yield
    except WeightsError as error:
        error.remedy = error.remedy.replace("--weights", name)
        raise
