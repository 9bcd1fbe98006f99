"""The order of tiles in a bundle, which tells nothing about slides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import SiteKey, shuffled_order

_ORDER = "tile order v1"


def release_order(key: SiteKey, count: int) -> NDArray[np.int64]:
    """(N,) the accepted tile at each place of the bundle."""
    return shuffled_order(key.derive(_ORDER), count)
