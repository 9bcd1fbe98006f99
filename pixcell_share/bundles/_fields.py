"""Typed access to parsed JSON, with errors that name the field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pixcell_share.bundles.faults import Fault
from pixcell_share.errors import FormatError

_SHA256 = re.compile(r"[0-9a-f]{64}")
REMEDY = "ask the site to write and send the bundle again, or update this program if it is older"


@dataclass(frozen=True)
class Fields:
    """One JSON object whose members are taken by name and type; `close` refuses the rest."""

    file: str
    where: str
    values: Mapping[str, Any]

    @classmethod
    def root(cls, file: str, value: Any) -> Fields:
        """The outermost object of ``file``."""
        return cls(file, "", _typed(file, "the outermost value", value, dict, "an object"))

    def path(self, name: str) -> str:
        """The dotted name of a member, in printable ASCII: a stranger may have chosen it."""
        name = ascii(name)[1:-1][:64]
        return f"{self.where}.{name}" if self.where else name

    def wrong(self, name: str, why: str, fault: Fault = Fault.FIELD_WRONG) -> FormatError:
        """The error for the member ``name``."""
        return FormatError(f"{self.file}: field {self.path(name)} {why}", REMEDY, fault)

    def close(self, *known: str) -> None:
        """Refuse members that the format does not know."""
        if extra := sorted(set(self.values) - set(known)):
            raise self.wrong(extra[0], "is not known to the format")

    def any(self, name: str) -> Any:
        """The member as it is; it must be there."""
        if name not in self.values:
            raise self.wrong(name, "is missing")
        return self.values[name]

    def text(self, name: str) -> str:
        """A string of at most 1024 characters."""
        value: str = _typed(self.file, self.path(name), self.any(name), str, "a text")
        if len(value) > 1024:
            raise self.wrong(name, "is longer than 1024 characters")
        return value

    def constant(self, name: str, expected: str | int, fault: Fault = Fault.FIELD_WRONG) -> None:
        """A member that can have one value only."""
        value = self.any(name)
        if type(value) is not type(expected) or value != expected:
            raise self.wrong(name, f"is not {expected!r}", fault)

    def integer(self, name: str, low: int = 0, high: int = 2**53) -> int:
        """A whole number from ``low`` to ``high``."""
        value = self.any(name)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, f"is not a whole number from {low} to {high}")
        return value

    def number(self, name: str) -> float:
        """A number, as float."""
        value = self.any(name)
        if type(value) not in (int, float):
            raise self.wrong(name, "is not a number")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value: bool = _typed(self.file, self.path(name), self.any(name), bool, "true or false")
        return value

    def sha256(self, name: str) -> str:
        """64 hex digits in lower case."""
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise self.wrong(name, "is not a SHA-256 in lower-case hex")
        return value

    def object(self, name: str) -> Fields:
        """A nested object."""
        value = _typed(self.file, self.path(name), self.any(name), dict, "an object")
        return Fields(self.file, self.path(name), value)

    def objects(self, name: str) -> Iterator[Fields]:
        """A list of objects."""
        for i, value in enumerate(self._list(name)):
            where = f"{self.path(name)}[{i}]"
            yield Fields(self.file, where, _typed(self.file, where, value, dict, "an object"))

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        items = self._list(name)
        return [
            _typed(self.file, f"{self.path(name)}[{i}]", item, str, "a text")
            for i, item in enumerate(items)
        ]

    def numbers(self, name: str) -> dict[str, float | int]:
        """An object whose members are all numbers."""
        nested = self.object(name)
        for key in nested.values:
            nested.number(key)
        return dict(nested.values)

    def _list(self, name: str) -> list[Any]:
        value: list[Any] = _typed(self.file, self.path(name), self.any(name), list, "a list")
        return value


def _typed(file: str, where: str, value: Any, kind: type, noun: str) -> Any:
    if type(value) is not kind:
        raise FormatError(f"{file}: field {where} is not {noun}", REMEDY, Fault.FIELD_WRONG)
    return value
