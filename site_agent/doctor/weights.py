"""Doctor: are the weights of the generator, its VAE and the encoder here, and do they fit?

Nothing is downloaded and nobody is asked: the answers come from this machine alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixcell_share.checks import Check, fail, ok, warn
from pixcell_share.encoders import EncoderSpec, LoadRequest, encoder_spec
from pixcell_share.encoders.nano import NANO_FOLDER
from pixcell_share.encoders.remote_code import RemoteCodeSource
from pixcell_share.errors import PixcellError, WeightsError
from pixcell_share.pixcell.identity import VAE_REPO
from pixcell_share.pixcell.load import WEIGHTS, read_json
from pixcell_share.weights import (
    TOKEN_VARIABLE,
    Located,
    access_token,
    find_local,
    is_repo_id,
    offline,
)
from site_agent.doctor.settings import DoctorSettings

__all__ = ["examine_weights"]

_FILES = ("config.json", f"{WEIGHTS}*.safetensors")


@dataclass(frozen=True)
class _Wanted:
    """Weights that a run would look for."""

    name: str
    """Of the check."""
    where: str
    """A folder or a repository id."""
    option: str
    """The option that names another place."""
    gated: bool = False
    """Whether the page asks for an account that accepted the terms."""


def examine_weights(settings: DoctorSettings) -> list[Check]:
    """Generator, VAE and encoder, each found or not, and whether they belong together."""
    generator = _find_generator(settings.model)
    checks = [_judge(_Wanted("generator", settings.model, "--model"), generator)]
    if generator is not None or settings.vae is not None or is_repo_id(settings.model):
        checks.append(_examine_vae(settings, generator))
    try:
        spec = encoder_spec(settings.encoder_name, settings.weights)
    except PixcellError as error:
        return [*checks, fail("encoder", error.cause, error.remedy)]
    checks.append(_examine_encoder(settings, spec))
    return [*checks, *_examine_fit(generator, spec)]


def _find_generator(model: str) -> Located | None:
    where = str(NANO_FOLDER.parent) if model == "nano" else model
    required = [f"transformer/{file}" for file in _FILES]
    return find_local(where, patterns=required, required=required)


def _examine_vae(settings: DoctorSettings, generator: Located | None) -> Check:
    if settings.vae is None and generator is not None and _holds_vae(generator):
        return ok("VAE", f"beside the generator ({generator.source})")
    where = settings.vae or VAE_REPO
    found = find_local(where, patterns=_FILES, required=_FILES) or find_local(
        where, patterns=["vae/*"], required=[f"vae/{file}" for file in _FILES]
    )
    return _judge(_Wanted("VAE", where, "--vae", gated=where == VAE_REPO), found)


def _holds_vae(generator: Located) -> bool:
    return (generator.folder / "vae" / "config.json").is_file()


def _examine_encoder(settings: DoctorSettings, spec: EncoderSpec) -> Check:
    found = spec.source.find(LoadRequest(settings.weights, spec.licence.page))
    where = settings.weights or spec.source.repo
    check = _judge(_Wanted(f"encoder {spec.name}", where, "--weights", spec.licence.gated), found)
    runs_code = isinstance(spec.source, RemoteCodeSource) and not settings.trust_remote_code
    if runs_code and check.status != "fail":
        return fail(
            check.name,
            "its Python code comes with its weights and may not run yet",
            f"read that code at {spec.licence.page}, then run with --trust-remote-code",
        )
    return check


def _judge(wanted: _Wanted, found: Located | None) -> Check:
    """Found, or what the run would do about it."""
    if found is not None:
        return ok(wanted.name, f"found ({found.source}, revision {found.revision[:12]})")
    if not is_repo_id(wanted.where) or Path(wanted.where).exists():
        return fail(
            wanted.name,
            f"there are no such weights in {wanted.where}",
            f"name a folder that holds them, or a repository such as owner/name, with "
            f"{wanted.option}",
        )
    if offline():
        return fail(
            wanted.name,
            f"{wanted.where} is not on this machine, and HF_HUB_OFFLINE is set",
            f"unset HF_HUB_OFFLINE, or name a local folder with {wanted.option}",
        )
    return _before_download(wanted)


def _before_download(wanted: _Wanted) -> Check:
    page = f"https://huggingface.co/{wanted.where}"
    if wanted.gated and access_token() is None:
        return fail(
            wanted.name,
            f"{wanted.where} is not on this machine, and its page gives it only to accounts that "
            f"accepted its terms; {TOKEN_VARIABLE} is not set",
            f"accept the terms at {page} and put an access token of that account into "
            f"{TOKEN_VARIABLE}, or name a local folder with {wanted.option}",
        )
    asks = " (whether the token's account accepted the terms will show then)"
    return warn(
        wanted.name,
        f"not on this machine: the run will download {wanted.where}{asks if wanted.gated else ''}",
        f"fine with a connection; else name a local folder with {wanted.option}",
    )


def _examine_fit(generator: Located | None, spec: EncoderSpec) -> list[Check]:
    """Whether the generator was trained with embeddings of this encoder's length."""
    if generator is None:
        return []
    try:
        channels = read_json(generator.folder / "transformer" / "config.json")["caption_channels"]
    except (WeightsError, KeyError) as error:
        return [fail("generator", f"its config.json is damaged: {error}", "get the file again")]
    if channels == spec.dim:
        return [ok("encoder fits", f"embeddings of {spec.dim} numbers, as the generator expects")]
    return [
        fail(
            "encoder fits",
            f"{spec.name} gives {spec.dim} numbers, but the generator was trained with {channels}",
            "choose with --encoder the encoder that the generator was trained with",
        )
    ]
