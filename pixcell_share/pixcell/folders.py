"""Where the parts of a generator lie: its own folder, and the VAE's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.errors import WeightsError, WeightsMissingError
from pixcell_share.pixcell.identity import VAE_REPO, identify
from pixcell_share.pixcell.load import WEIGHTS, read_json
from pixcell_share.weights import Located, ModelIdentity, is_repo_id, locate

NANO = "nano"
NANO_1024 = "nano-1024"
_NANO_FOLDER = Path(__file__).resolve().parents[1] / "nano" / "weights"
_NANO_1024_FOLDER = _NANO_FOLDER.with_name("weights-1024")
INDEX = "model_index.json"
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
        index = self.root / INDEX
        value = read_json(index).get("guidance_scale") if index.is_file() else None
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise WeightsError(f"guidance_scale in {index} is {value!r}", "make it a number from 0")
        return float(value)


def find_folders(path_or_repo: str, vae: str | None) -> GeneratorFolders:
    """Find a generator, and the VAE: the one asked for, else its own, else the one that its
    ``model_index.json`` names as ``vae_source``, else SD3.5's.

    Args:
        path_or_repo: ``nano`` or ``nano-1024``, a diffusers folder, or a repository id.
        vae: a folder that holds the VAE or has it in its sub-folder ``vae``, or a repository
            with such a sub-folder.

    Raises:
        WeightsMissingError: a part is not on this machine and cannot be downloaded.
        WeightsGatedError: a repository asks for an account that accepted its terms.
    """
    generator = find_generator(path_or_repo)
    transformer = generator.folder / "transformer"
    vae_located, vae_folder = _find_vae(generator, vae)
    identities = (
        identify("generator", generator, transformer),
        identify("vae", vae_located, vae_folder),
    )
    return GeneratorFolders(generator.folder, vae_folder, identities)


def find_generator(path_or_repo: str) -> Located:
    """Find a generator's own files, without asking for its VAE.

    Args:
        path_or_repo: as of `find_folders`.

    Raises:
        WeightsMissingError: it is not on this machine and cannot be downloaded.
        WeightsGatedError: the repository asks for an account that accepted its terms.
    """
    name = _packaged(path_or_repo)
    required = [f"transformer/{file}" for file in _FILES]
    with _option("--model"):
        return locate(name, patterns=_generator_patterns(), required=required)


def has_nano_1024() -> bool:
    """Whether this copy of the package holds ``nano-1024``."""
    return (_NANO_1024_FOLDER / "transformer" / "config.json").is_file()


def _packaged(name: str) -> str:
    """The folder of a model in the package; any other name as it is."""
    folder = {NANO: _NANO_FOLDER, NANO_1024: _NANO_1024_FOLDER}.get(name)
    if folder is None:
        return name
    if not folder.is_dir():
        raise WeightsMissingError(
            f"this copy of pixcell-share was packaged without the weights of {name}",
            "install a release, train them with `pixcell-train nano`, or name another --model",
        )
    return str(folder)


def _find_vae(generator: Located, vae: str | None) -> tuple[Located, Path]:
    if vae is None and (generator.folder / "vae" / "config.json").is_file():
        return generator, generator.folder / "vae"
    return find_vae(_vae_source(generator.folder) if vae is None else vae)


def find_vae(path_or_repo: str) -> tuple[Located, Path]:
    """Find a VAE alone: where its files come from, and the folder of its config and weights.

    Args:
        path_or_repo: ``nano``, a folder that holds the VAE or has it in its sub-folder ``vae``,
            or a repository with such a sub-folder.

    Raises:
        WeightsMissingError: it is not on this machine and cannot be downloaded.
        WeightsGatedError: the repository asks for an account that accepted its terms.
    """
    name = _packaged(path_or_repo)
    itself = (Path(name).expanduser() / "config.json").is_file()
    part = "." if itself else "vae"
    files = [file if itself else f"vae/{file}" for file in _FILES]
    with _option("--vae"):
        located = locate(name, patterns=files, required=files)
    return located, located.folder / part


def _vae_source(folder: Path) -> str:
    """The VAE that the index names: never a path, which would be another machine's."""
    index = folder / INDEX
    source = read_json(index).get("vae_source", VAE_REPO) if index.is_file() else VAE_REPO
    if source != NANO and not (isinstance(source, str) and is_repo_id(source)):
        raise WeightsMissingError(
            f"vae_source in {index} is {source!r}, neither nano nor a repository id",
            "name the folder that holds the VAE with --vae",
        )
    return source


def _generator_patterns() -> list[str]:
    parts = [f"{part}/{file}" for part in ("transformer", "vae") for file in _FILES]
    return [INDEX, "README.md", "scheduler/scheduler_config.json", *parts]


@contextmanager
def _option(name: str) -> Iterator[None]:
    """Let a remedy name the option that belongs to this part, not ``--weights``."""
    try:
        yield
    except WeightsError as error:
        error.remedy = error.remedy.replace("--weights", name)
        raise
