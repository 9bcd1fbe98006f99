"""What the work on a round gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class WithArrays:
    """A result that arrays belong to, such as the update of a LoRA."""

    result: Mapping[str, Any]
    arrays: Arrays = field(default_factory=dict)
