"""Names that a person would take for another."""

from __future__ import annotations

import pytest

from pixcell_share.bundles import Fault, check_name
from pixcell_share.bundles._lookalikes import is_misleading, skeleton
from pixcell_share.bundles.faults import UnfitError


@pytest.mark.parametrize(
    "name", ["Uniklinik Köln", "TNFα", "NFκB", "опухоль", "όγκος", "腫瘍", "0.5 µm", "H&E"]
)
def test_names_of_the_field_and_of_any_script(name: str) -> None:
    check_name("x", name)
    assert not is_misleading(name)


@pytest.mark.parametrize(
    "name",
    [
        "Un\u0456klinik",  # Cyrillic i
        "\u0391deno",  # Greek capital alpha
        "t\u03bfmour",  # Greek omicron
        "tum\u0585ur",  # Armenian oh
        "normal\u3164",  # Hangul filler
        "norm\u034fal",  # combining grapheme joiner
        "a\ufe0f",  # variation selector
    ],
)
def test_misleading_names(name: str) -> None:
    with pytest.raises(UnfitError) as caught:
        check_name("x", name)
    assert caught.value.fault is Fault.NAME_MISLEADING


def test_one_skeleton_for_what_looks_the_same() -> None:
    assert skeleton("Uniklinik Köln") == skeleton("UNIKLINIK K\u04e6LN".lower())
    assert skeleton("\u041c\u0430\u0441\u0430") == skeleton("Maca")
    assert skeleton("\uff54umour") == skeleton("tumour")
    assert skeleton("tumour") != skeleton("tumor")
