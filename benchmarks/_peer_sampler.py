"""diffusers' own PixArt sampling on our weights: the peer of `sampler.py`.

The loop is that of ``PixArtAlphaPipeline.__call__`` from prepared latents on: both branches of
guidance in one batch, the learned variance cut off, the scheduler's step, and the pictures by
``VaeImageProcessor``. diffusers scales latents; SD3's VAE is shifted too, as in its own pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtTransformer2DModel
from diffusers.image_processor import VaeImageProcessor
from torch import nn

from pixcell_share.pixcell import PixCell, tile_noise

_OWN = ("caption_projection.uncond_embedding", "y_pos_embed.y_pos_embed")


class Peer:
    """diffusers' transformer, scheduler and VAE with the weights of ``model``."""

    def __init__(self, model: PixCell, steps: int, scale: float) -> None:
        ours = model.transformer
        self.state = ours.state_dict()
        config = {k: v for k, v in ours.config.items() if k[0] != "_" and k != "caption_num_tokens"}
        config["cross_attention_dim"] = ours.inner_dim
        with torch.device(ours.device):
            self.transformer = PixArtTransformer2DModel(**config).eval()
        nn.Module.to(self.transformer, ours.dtype)  # diffusers' own `to` only adds a warning
        self.transformer.load_state_dict({k: v for k, v in self.state.items() if k not in _OWN})
        vae = model.codec.vae
        with torch.device(vae.device):
            self.vae = AutoencoderKL.from_config(vae.config).eval()
        nn.Module.to(self.vae, vae.dtype)
        self.vae.load_state_dict(vae.state_dict())
        self.processor = VaeImageProcessor(vae_scale_factor=model.codec.factor)
        self.scheduler: Any = DPMSolverMultistepScheduler.from_config(model.new_scheduler().config)
        self.steps, self.scale = steps, scale

    @torch.inference_mode()
    def denoise(self, embeddings: np.ndarray, seeds: Sequence[int]) -> torch.Tensor:
        """Latents (B, C, H, W) in the model's dtype."""
        model, scheduler = self.transformer, self.scheduler
        device, dtype = model.device, model.dtype
        side, channels = model.config.sample_size, model.config.in_channels
        positive = torch.from_numpy(embeddings).to(device, dtype)
        null = self.state[_OWN[0]][None].expand_as(positive)
        prompt = torch.cat([null, positive]) + self.state.get(_OWN[1], 0.0)
        scheduler.set_timesteps(self.steps, device=device)
        latents = tile_noise(seeds, (channels, side, side)).to(device, dtype)
        latents = latents * scheduler.init_noise_sigma
        added = {"resolution": None, "aspect_ratio": None}
        for t in scheduler.timesteps:
            doubled = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            noise = model(
                doubled,
                encoder_hidden_states=prompt,
                timestep=t[None].expand(len(doubled)),
                added_cond_kwargs=added,
                return_dict=False,
            )[0]
            uncond, text = noise.chunk(2)
            noise = uncond + self.scale * (text - uncond)
            if model.config.out_channels // 2 == channels:
                noise = noise.chunk(2, dim=1)[0]
            latents = scheduler.step(noise, t, latents, return_dict=False)[0]
        return latents

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Tiles uint8 (B, H, W, 3); 16 at once, as PixCell decodes, so that large batches fit."""
        config = self.vae.config
        raw = latents.to(self.vae.dtype) / config.scaling_factor + (config.shift_factor or 0.0)
        slices = raw.split(max(1, 16 * 1024 // (raw.shape[-1] * raw.shape[-2])))
        parts = [
            self.processor.postprocess(
                self.vae.decode(part, return_dict=False)[0], output_type="np"
            )
            for part in slices
        ]
        return (np.concatenate(parts) * 255).round().astype(np.uint8)

    def draw(self, batches: Sequence[Any]) -> list[np.ndarray]:
        """Batch after batch."""
        return [self.decode(self.denoise(batch.embeddings, batch.seeds)) for batch in batches]
