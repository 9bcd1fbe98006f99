"""Dates and times in a text, as programs and people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_YEAR = r"(?:19|20)\d\d"
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_LOOSE_MONTH, _LOOSE_DAY = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_NAMES = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_TIME = re.compile(
    rf"""
    (?<![0-9A-Za-z])(?:
      {_YEAR}-{_MONTH}-{_DAY}                       # ISO 8601
    | {_YEAR}:{_MONTH}:{_DAY}                       # EXIF 2.3, tag DateTime
    | (?<!\d\.)(?<!":){_YEAR}{_MONTH}{_DAY}         # DICOM PS3.5, 6.2: DA, and the start of DT
      (?:T?(?:[01]\d|2[0-3])[0-5]\d[0-5]\d(?:\.\d+)?)?Z?
      (?!\.\d|\s(?:B|tiles|synthetic)\b)            # a number with its unit is no date
    | {_YEAR}/{_MONTH}/{_DAY}
    | {_LOOSE_DAY}[./]{_LOOSE_MONTH}[./]{_YEAR}     # 24.12.2026
    | {_LOOSE_MONTH}/{_LOOSE_DAY}/{_YEAR}           # 12/24/2026
    | {_LOOSE_DAY}\s{_NAMES}\s{_YEAR}               # RFC 5322
    | {_NAMES}\s{{1,2}}{_LOOSE_DAY}(?:,|\s{_CLOCK})\s{_YEAR} # C's asctime, and American English
    | {_CLOCK}
    )
    (?![0-9A-SU-Z])                                 # a T may follow: the time of day
    """,
    re.VERBOSE | re.IGNORECASE,
)


def find_times(text: str, public: Iterable[str] = ()) -> Iterator[str]:
    """Each date or time of day in ``text``.

    A run of eight digits counts where it is a day from 1900 to 2099, unless it is a JSON number or
    a unit follows. What stands in one of the ``public`` texts, such as the revision of a model,
    does not count.
    """
    for known in public:
        if _TIME.search(known):
            text = text.replace(known, " ")
    for found in _TIME.finditer(text):
        yield found[0]
