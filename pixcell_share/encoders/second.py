"""Which encoder audits: another than the one that conditioned.

A synthetic tile is close to its source in the conditioning encoder by design, so that encoder
cannot say what else of the source came through (threat model in ``docs/``).
"""

from __future__ import annotations

from dataclasses import dataclass

from pixcell_share.encoders.encoder import Encoder, encoder_spec
from pixcell_share.encoders.spec import LoadRequest
from pixcell_share.errors import SettingsError

__all__ = ["SecondEncoder", "require_independent", "second_encoder", "second_encoder_name"]

_TEXTURE = "texture"
_PREFERRED = (
    "virchow2",
    "hoptimus1",
    "uni2h",
    "keep",
    "dinov2_vitl14_reg",
    "dinov2_vitl14",
    "dinov2_vitg14_reg",
    "dinov2_vitg14",
    "dinov2_vitb14_reg",
    "dinov2_vitb14",
    "dinov2_vits14_reg",
    "dinov2_vits14",
)
"""Foundation models of histology first, then those of natural pictures, by size and speed."""

_REMEDY = (
    "leave --audit-encoder out for the default, or name another one "
    "(`texture` needs no weights, and is weaker)"
)


@dataclass(frozen=True)
class SecondEncoder:
    """The encoder of the audit."""

    name: str
    """In the registry."""
    sentence: str
    """What was chosen and how strong it is, for the report."""


def second_encoder(
    conditioning: str, wanted: str | None = None, *, trust_remote_code: bool = False
) -> SecondEncoder:
    """The encoder that audits what ``conditioning`` conditioned.

    Unless one is ``wanted``: for ``nano`` the texture descriptor; else the first of the foundation
    models whose weights are on this machine; else the texture descriptor. Nothing is downloaded.

    Args:
        conditioning: name of the encoder that conditions.
        wanted: what the site asks for.
        trust_remote_code: whether KEEP, which runs its own code, may be chosen.

    Raises:
        SettingsError: no such encoder, or ``wanted`` is the one that conditions.
    """
    encoder_spec(conditioning)
    if wanted is not None:
        encoder_spec(wanted)
        _refuse_same(wanted == conditioning, wanted)
        return SecondEncoder(wanted, f"Audited with {_described(wanted)}, as the site asked for.")
    if conditioning == "nano":
        return SecondEncoder(_TEXTURE, f"Audited with {_described(_TEXTURE)}: the usual for nano.")
    for name in _PREFERRED:
        if name != conditioning and _on_this_machine(name, trust_remote_code):
            return SecondEncoder(
                name, f"Audited with {_described(name)}: its weights are on this machine."
            )
    _refuse_same(conditioning == _TEXTURE, _TEXTURE)
    return SecondEncoder(
        _TEXTURE,
        f"Audited with {_described(_TEXTURE)}: no other encoder's weights are on this machine.",
    )


def second_encoder_name(conditioning: str, wanted: str | None = None) -> str:
    """The name alone; see `second_encoder`."""
    return second_encoder(conditioning, wanted).name


def require_independent(first: Encoder, second: Encoder) -> None:
    """Check that ``second`` is not the conditioning encoder under this or another name.

    Raises:
        SettingsError: they have the same name, or weights of the same digest.
    """
    same = first.name == second.name or first.identity.sha256 == second.identity.sha256
    _refuse_same(same, second.name)


def _refuse_same(same: bool, name: str) -> None:
    if same:
        raise SettingsError(
            f"an audit with the conditioning encoder ({name}) would be blind to what that encoder "
            "does not see, and takes the closeness that was asked for as a leak",
            _REMEDY,
        )


def _on_this_machine(name: str, trust_remote_code: bool) -> bool:
    spec = encoder_spec(name)
    if name == "keep" and not trust_remote_code:
        return False
    request = LoadRequest(None, spec.licence.page or None, trust_remote_code)
    return spec.source.find(request) is not None


def _described(name: str) -> str:
    if name == _TEXTURE:
        return "a fixed texture descriptor, which is weaker than a foundation model"
    if name == "nano":
        return "nano, a small encoder, which is weaker than a foundation model"
    if name.startswith("dinov2"):
        return f"{name}, a foundation model of natural pictures"
    return f"{name}, a foundation model of histology"
