"""What may not be in a bundle: names of slides, patients, places and people, dates and times.

**Which words are looked for.** Each name as a whole, the name of a slide or file without its
ending, every folder of a path, and the parts between punctuation, in either case, in UTF-8 and
UTF-16. Left out are words of fewer than four characters, numbers of fewer than seven digits (they
turn up among counts and figures), words of any bundle (``slide``, ``tile``), and what the site
publishes itself: its label, its class names, its models. A word of fewer than ten characters
counts only where no letter or digit stands beside it: ``ab12`` is found in ``x-ab12.svs``, not in
a hex digest.

**Where.** In texts all of them. In pixels and other data that looks like noise only words of at
least ten characters, six of them different: ten given bytes turn up by chance once in 10^20 places,
four in every few gigabytes.
"""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from pixcell_share.bundles._needles import BLOCK_BYTES, Needles
from pixcell_share.bundles._times import find_times
from pixcell_share.bundles._vocabulary import common_words, tokens

LEAST_CHARACTERS = 4
LEAST_DIGITS = 7
LEAST_INSIDE = 10
"""Characters from which a word counts inside a longer one, and in pixels."""
_LEAST_DIFFERENT = 6
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class Secrets:
    """Names that may not be in a bundle."""

    slides: tuple[str, ...] = ()
    """File names of slides, or their ids."""
    patients: tuple[str, ...] = ()
    """Patient or case ids."""
    paths: tuple[str, ...] = ()
    """Folders and files of this machine."""
    hosts: tuple[str, ...] = ()
    """Names of computers."""
    users: tuple[str, ...] = ()
    """Names of accounts or people."""


@dataclass(frozen=True)
class Finding:
    """One thing in a bundle that tells more than it should."""

    kind: str
    """``slide``, ``patient``, ``path``, ``host``, ``user``, ``time``, ``file_name``,
    ``png_chunk``, ``hdf5_attribute``, ``hdf5_bytes``, ``order`` or ``count``."""
    file: str
    """The file, by its name in the bundle; empty where it is about the bundle as a whole."""
    what: str
    """What it is, in a clause that may be shown to anyone."""
    private: str = ""
    """The very thing that was found: for the site's own eyes."""


@dataclass(frozen=True)
class _Word:
    """What a needle stands for."""

    kind: str
    text: str
    unit: int
    """Bytes of a character: 1 for UTF-8, 2 for UTF-16."""


class Search:
    """Looks for the words of `Secrets`, and for dates.

    Args:
        secrets: the names.
        public: what the site publishes itself, see `_vocabulary.public_texts`.
    """

    def __init__(self, secrets: Secrets, public: Iterable[str] = ()) -> None:
        self._public = tuple(public)
        self._words: dict[bytes, _Word] = {}
        published, common = "\n".join(self._public).casefold(), common_words(self._public)
        for kind, text in _words(secrets):
            folded = text.casefold()
            if not _is_telling(folded) or folded in common or _occurs(folded, published):
                continue
            for unit, needle in _spellings(text):
                self._words.setdefault(needle, _Word(kind, text, unit))
        self._everywhere = Needles(self._words, 4)
        long = (needle for needle, word in self._words.items() if _is_long(word.text))
        self._in_noise = Needles(long, 8)

    def in_file(self, path: Path) -> Iterator[Finding]:
        """Findings in the name and in the bytes of one file of a bundle, each word once."""
        yield from self.in_text(path.name, path.name.encode())
        if path.suffix in (".h5", ".png"):
            with path.open("rb") as stream:
                yield from self.in_noise(path.name, stream)
        elif path.name.endswith(".dsse.json"):
            yield from self.in_text(path.name, _payload(path.read_bytes()))
        else:
            yield from self.in_text(path.name, path.read_bytes())

    def in_text(self, name: str, data: bytes) -> Iterator[Finding]:
        """Findings in a text or a small piece of data, with or without its escapes."""
        plain = html.unescape(_ESCAPED.sub(rb"\1", data).decode(errors="replace"))
        views = dict.fromkeys((data, plain.encode()))
        found = dict.fromkeys(
            word
            for view in views
            for start, needle in self._everywhere.find(view)
            if _stands_alone(view, start, needle, word := self._words[needle])
        )
        yield from _findings(name, found)
        for time in dict.fromkeys(find_times(plain, self._public)):
            yield Finding("time", name, "a date or time", time)

    def in_noise(self, name: str, stream: BinaryIO) -> Iterator[Finding]:
        """Findings in a stream of any size whose bytes are as good as random."""
        found: dict[_Word, None] = {}
        tail = b""
        while block := stream.read(BLOCK_BYTES):
            data = tail + block
            found |= {self._words[needle]: None for _, needle in self._in_noise.find(data)}
            tail = data[max(0, len(data) - self._in_noise.longest + 1) :]
        yield from _findings(name, found)


def _findings(name: str, words: Iterable[_Word]) -> Iterator[Finding]:
    """One for each word, whatever its spelling."""
    for kind, text in dict.fromkeys((word.kind, word.text) for word in words):
        yield Finding(kind, name, f"the name of a {kind}, or a part of it", text)


def _words(secrets: Secrets) -> Iterator[tuple[str, str]]:
    """Every word to look for with its kind; people and slides come before places."""
    for kind, names in (
        ("patient", secrets.patients),
        ("slide", secrets.slides),
        ("user", secrets.users),
        ("host", secrets.hosts),
        ("path", secrets.paths),
    ):
        for name in names:
            for whole in _wholes(kind, name):
                yield kind, whole
            for part in tokens(name):
                yield kind, part


def _wholes(kind: str, name: str) -> list[str]:
    """A name, and what else it is called as a whole."""
    if kind in ("patient", "user"):
        return [name]
    if kind == "host":
        return [name, name.partition(".")[0]]
    folders = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    return [name, *sorted(folders), *sorted(_without_ending(folder) for folder in folders)]


def _without_ending(name: str) -> str:
    """``a.b`` of ``a.b.svs``, and ``a`` of ``a.ome.tiff``."""
    stem, dot, ending = name.removesuffix(".ome.tiff").removesuffix(".ome.tif").rpartition(".")
    return stem if dot and stem and len(ending) <= 8 else name


def _is_telling(word: str) -> bool:
    """Whether a word is long enough not to turn up by chance."""
    least = LEAST_DIGITS if word.isdigit() else LEAST_CHARACTERS
    return len(word) >= least


def _is_long(word: str) -> bool:
    return len(word) >= LEAST_INSIDE and len(set(word)) >= _LEAST_DIFFERENT


def _spellings(word: str) -> set[tuple[int, bytes]]:
    """Bytes of a character, and the word in either case, either normal form, three encodings."""
    forms = {
        unicodedata.normalize(form, cased)
        for form in ("NFC", "NFD")
        for cased in (word, word.casefold(), word.lower(), word.upper())
    }
    units = (("utf-8", 1), ("utf-16-le", 2), ("utf-16-be", 2))
    return {
        (unit, form.encode(encoding, "surrogatepass").lower())
        for form in forms
        for encoding, unit in units
    }


def _occurs(word: str, published: str) -> bool:
    """Whether a word with punctuation in it stands in what the site publishes."""
    return word in published and bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", published))


def _stands_alone(data: bytes, start: int, needle: bytes, word: _Word) -> bool:
    """Whether a short word has no letter or digit beside it, and a number no decimal point."""
    if len(word.text) >= LEAST_INSIDE:
        return True
    end = start + len(needle)
    before = data[max(0, start - word.unit) : start].strip(b"\0")
    after = data[end : end + word.unit].strip(b"\0")
    if word.text.isdigit() and before == b".":
        return False
    return not any(beside.isalnum() or not beside.isascii() for beside in (before, after))


def _payload(envelope: bytes) -> bytes:
    """What a DSSE envelope of our own holds; base64 would only hide it."""
    payload: str = json.loads(envelope)["payload"]
    return base64.b64decode(payload)
