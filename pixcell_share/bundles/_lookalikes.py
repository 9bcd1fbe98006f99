"""Names that a person would take for another: a small, strict part of Unicode TR 36 and TS 39.

Whole tables of confusable letters are large and change with Unicode. What matters here are the
scripts whose letters pass for Latin ones, and characters that show nothing at all.
"""

from __future__ import annotations

import re
import unicodedata

_ALIKE_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks of Default_Ignorable_Code_Point (Unicode 15, DerivedCoreProperties.txt)."""
_WORD = re.compile(r"[^\W\d_]+")
_LATIN_FOR = str.maketrans(
    "АВЕЅІЈКМНОРСТУХ" + "авеԁһіїјкмоӧрԛѕтуԝхс" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ" + "ονιρυ" + "Օօսոց",
    "ABESIJKMHOPCTYX" + "abedhiïjkmoöpqstywxc" + "ABEZHIKMNOPTYX" + "ovipu" + "Oouug",
)
"""Cyrillic, Greek and Armenian letters, and the Latin ones that they pass for. Greek letters that
the field uses beside Latin ones and that look their own way, as in TNFα or NFκB, are not here."""


def is_misleading(name: str) -> bool:
    """Whether a word has look-alikes among letters of another script, or a character unseen."""
    return bool(_INVISIBLE.search(name)) or any(map(_is_mixed, _WORD.findall(name)))


def skeleton(name: str) -> str:
    """What is left of a name when case, width and look-alike letters are taken from it.

    Two names with one skeleton look the same to somebody in a hurry.
    """
    return unicodedata.normalize("NFKC", name).translate(_LATIN_FOR).casefold()


def _is_mixed(word: str) -> bool:
    names = [unicodedata.name(letter, "").split() for letter in word]
    scripts = {script for parts in names for script in _ALIKE_SCRIPTS if script in parts}
    return len(scripts) > 1 and word.translate(_LATIN_FOR) != word
