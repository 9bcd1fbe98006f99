"""The correlation over small shifts, beside scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.feature import match_template

from pixcell_share.privacy.correlate import correlations


@pytest.mark.parametrize("side", [44, 52, 56, 60, 64])
@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_it_is_match_template(side: int, noise: float) -> None:
    rng = np.random.default_rng(side)
    picture = gaussian_filter(rng.normal(size=(64, 64)), 1.5).astype(np.float32)
    part = picture[:side, 64 - side :] + noise * rng.normal(size=(side, side))
    found = correlations(picture, part.astype(np.float32))
    np.testing.assert_allclose(found, match_template(picture, part.astype(np.float32)), atol=2e-6)
    if not noise:
        assert found[0, -1] == pytest.approx(1, abs=1e-6)


def test_what_has_no_structure_correlates_with_nothing() -> None:
    flat, part = np.full((64, 64), 7.0, np.float32), np.eye(56, dtype=np.float32)
    assert not correlations(flat, part).any()
    assert not correlations(np.eye(64, dtype=np.float32), flat[:56, :56]).any()
