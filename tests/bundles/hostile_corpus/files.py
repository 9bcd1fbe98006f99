"""The folder: what is missing, extra, changed, too large, or no plain file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from pixcell_share.bundles import Fault, SiteKey
from tests.bundles.forging import MANIFEST, sign_anew
from tests.bundles.hostile_corpus.case import Case, Spoil
from tests.bundles.hostile_shards import SHARD

_TERABYTE = 1 << 40


def cases() -> list[Case]:
    """All of them."""
    return [*_CHANGED, *_SIDE_FILES, *_SPECIAL]


def _with(name: str, change: Callable[[bytes], bytes], sign: bool = False) -> Spoil:
    def spoil(folder: Path, key: SiteKey) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        if sign:
            sign_anew(folder, key)

    return spoil


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _without(name: str) -> Spoil:
    return lambda folder, _key: (folder / name).unlink()


def _plus(name: str, sign: bool = False) -> Spoil:
    def spoil(folder: Path, key: SiteKey) -> None:
        (folder / name).write_bytes(b"extra")
        if sign:
            sign_anew(folder, key)

    return spoil


def _hidden_text(folder: Path, key: SiteKey) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("Source", "/wsi/patient-1.svs")
    Image.new("RGB", (8, 8)).save(folder / "preview.png", pnginfo=note)
    sign_anew(folder, key)


def _step(act: str, name: str, **more: Any) -> tuple[dict[str, Any], ...]:
    return ({"do": act, "name": name, **more},)


_CHANGED = (
    Case("bit_flipped_shard", Fault.DIGEST_WRONG, "One bit of a shard.", _with(SHARD, _flip)),
    Case("bit_flipped_card", Fault.DIGEST_WRONG, "One bit of the card.", _with("card.md", _flip)),
    Case(
        *("truncated_after_signing", Fault.DIGEST_WRONG),
        "A shard was cut after it was signed.",
        _with(SHARD, lambda data: data[:-1]),
    ),
    Case("empty_shard", Fault.DIGEST_WRONG, "A shard is empty.", _with(SHARD, lambda _: b"")),
    Case("missing_shard", Fault.FILE_MISSING, "A shard is missing.", _without(SHARD)),
    Case("missing_card", Fault.FILE_MISSING, "The card is missing.", _without("card.md")),
    Case("missing_manifest", Fault.FILE_MISSING, "There is no manifest.", _without(MANIFEST)),
    Case("extra_file", Fault.FILE_EXTRA, "A file that nobody signed.", _plus("notes.txt")),
    Case("hidden_file", Fault.FILE_EXTRA, "A hidden file.", _plus(".hidden")),
    Case(
        *("extra_shard", Fault.FILE_EXTRA),
        "A shard that nobody signed.",
        lambda folder, _key: (folder / "shard-00001.h5").write_bytes((folder / SHARD).read_bytes()),
    ),
    Case("extra_file_signed_for", Fault.FILE_EXTRA, "It is signed for.", _plus("x.bin", sign=True)),
)
_SIDE_FILES = (
    Case(
        *("preview_with_text", Fault.PREVIEW_HIDES_DATA), "A text chunk in the PNG.", _hidden_text
    ),
    Case(
        *("preview_with_a_tail", Fault.PREVIEW_HIDES_DATA),
        "Bytes behind the end of the PNG.",
        _with("preview.png", lambda data: data + b"hidden", sign=True),
    ),
    Case(
        *("preview_no_png", Fault.PREVIEW_NOT_PNG),
        "The preview is a script.",
        _with("preview.png", lambda _: b"<svg onload=alert(1)>", sign=True),
    ),
    Case(
        *("croissant_repeated_key", Fault.JSON_NOT_STRICT),
        "A key stands twice in the metadata.",
        _with("croissant.json", lambda _: b'{"name":"a","name":"b"}', sign=True),
    ),
)
_SPECIAL = (
    Case(
        *("symlink_to_a_secret", Fault.NOT_A_PLAIN_FILE),
        "The card is a link to a file of the machine.",
        steps=_step("symlink", "card.md", to="/etc/passwd"),
    ),
    Case(
        *("symlinked_manifest", Fault.NOT_A_PLAIN_FILE),
        "The manifest is a link.",
        steps=_step("symlink", MANIFEST, to="../elsewhere.json"),
    ),
    Case(
        *("symlinked_shard", Fault.NOT_A_PLAIN_FILE),
        "A shard is a link to a device without an end.",
        steps=_step("symlink", SHARD, to="/dev/zero"),
    ),
    Case(
        *("fifo", Fault.NOT_A_PLAIN_FILE),
        "A pipe that nobody writes to: opening it would wait for ever.",
        steps=_step("fifo", "card.md"),
    ),
    Case(
        *("fifo_for_manifest", Fault.NOT_A_PLAIN_FILE),
        "The manifest is such a pipe.",
        steps=_step("fifo", MANIFEST),
    ),
    Case(
        *("folder_for_shard", Fault.NOT_A_PLAIN_FILE),
        "A shard is a folder.",
        steps=_step("folder", SHARD),
    ),
    Case(
        *("sub_folder", Fault.NOT_A_PLAIN_FILE),
        "There is a folder more.",
        steps=_step("folder", "more"),
    ),
    Case(
        *("gigantic_manifest", Fault.FILE_TOO_LARGE),
        "The manifest is a terabyte, of which nothing is on the disk.",
        steps=_step("sparse", MANIFEST, size=_TERABYTE),
    ),
    Case(
        *("gigantic_shard", Fault.FILE_TOO_LARGE),
        "A shard is a terabyte of nothing.",
        steps=_step("sparse", SHARD, size=_TERABYTE),
    ),
    Case(
        *("gigantic_card", Fault.FILE_TOO_LARGE),
        "The card is a terabyte of nothing.",
        steps=_step("sparse", "card.md", size=_TERABYTE),
    ),
    Case(
        *("look_alike_file_name", Fault.FILE_EXTRA),
        "A second manifest whose name has a Cyrillic a.",
        steps=_step("file", "m\u0430nifest.dsse.json"),
    ),
    Case(
        *("full_width_shard_name", Fault.FILE_EXTRA),
        "A shard whose number is in full-width digits.",
        steps=_step("file", "shard-0000\uff11.h5"),
    ),
    Case(
        *("terminal_command_in_file_name", Fault.FILE_EXTRA),
        "A file name that clears a terminal.",
        steps=_step("file", "a\x1b[2J\n"),
    ),
)
