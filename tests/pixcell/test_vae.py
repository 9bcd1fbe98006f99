"""Pictures to latents and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixcell_share.pixcell import LatentCodec, to_pixels, to_uint8
from pixcell_share.pixcell import vae as vae_module


def test_every_grey_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    pixels = to_pixels(levels)
    assert pixels.shape == (1, 3, 16, 16)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    assert np.array_equal(to_uint8(pixels).numpy(), levels)


@pytest.mark.parametrize(
    ("pixel", "level"),
    [
        (-3, 0),
        (3, 255),
        (0, 128),
        (0.49 / 127.5 - 1, 0),
        (0.51 / 127.5 - 1, 1),
        (1.51 / 127.5 - 1, 2),
    ],
)
def test_rounding_is_to_the_nearest_level_and_the_middle_is_128(pixel, level):
    assert to_uint8(torch.full((1, 3, 1, 1), float(pixel))).unique().item() == level


def test_channels_stay_in_order():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 1, 0] = (10, 20, 30)
    assert to_pixels(image)[0, 2, 1, 0] == pytest.approx(30 / 127.5 - 1)
    assert np.array_equal(to_uint8(to_pixels(image)).numpy(), image)


def test_latents_are_shifted_and_scaled_by_the_vaes_own_config(make_vae):
    vae = make_vae()
    codec = LatentCodec(vae)
    assert (codec.scale, codec.shift, codec.channels, codec.factor) == (1.5305, 0.0609, 16, 8)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        mean = vae.encode(pixels).latent_dist.mean
        latents = codec.encode(pixels)
        decoded = codec.decode(latents)
        wanted = vae.decode(mean).sample
    assert latents.shape == (2, 16, 8, 8)
    torch.testing.assert_close(latents, (mean - 0.0609) * 1.5305)
    torch.testing.assert_close(decoded, wanted, rtol=1e-4, atol=1e-5)


def test_a_vae_without_a_shift(make_vae):
    assert LatentCodec(make_vae(shift_factor=None)).shift == 0.0


def test_decoding_in_slices_changes_nothing(make_vae, monkeypatch):
    codec = LatentCodec(make_vae())
    latents = torch.randn(5, 16, 4, 4, generator=torch.Generator().manual_seed(6))
    seen: list[int] = []
    codec.vae.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        whole = codec.decode(latents)
        monkeypatch.setattr(vae_module, "_DECODE_PIXELS", 2 * 32 * 32)
        sliced = codec.decode(latents)
    assert seen == [5, 2, 2, 1]
    torch.testing.assert_close(sliced, whole, rtol=0, atol=1e-4)
