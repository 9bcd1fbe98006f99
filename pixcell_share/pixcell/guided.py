"""A transformer made ready to denoise: what does not change from step to step is computed once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.affine import Affine
from pixcell_share.pixcell.blocks import run_block
from pixcell_share.pixcell.caching import cache_context, enable_block_cache
from pixcell_share.pixcell.compiled import compiled_block
from pixcell_share.pixcell.condition import check_latents, check_tokens
from pixcell_share.pixcell.device import copied
from pixcell_share.pixcell.prepared import PreparedBlock, Rows, Stack
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel


class GuidedModel:
    """A transformer prepared for one set of conditions and one list of time steps.

    Computed once, with the same result as `PixCellTransformer2DModel.forward` in every step: the
    embedded time steps; the projected conditions, and the null one a single time for all images;
    with one condition token all of cross-attention; with several its keys and values. The two
    branches of guidance share everything before the first cross-attention. Nothing is kept in
    the transformer, so several of these may be in use at once; weights that change later (an
    adapter added, a training step) need a new one. No gradient flows through it.

    Args:
        transformer: the model, in eval mode; adapters may be active.
        embeddings: ``(B, T, D)``.
        timesteps: ``(S,)``, as a scheduler's ``timesteps``.
        guidance_scale: ``g`` in ``u + g (c - u)``; at 1 the null branch is never run.
        guidance_interval: changes the result: guide only at time steps from the first to the
            second number (arXiv:2404.07724), with the condition alone at the others.
        block_cache: changes the result: compute the blocks in three steps and then in every
            ``block_cache``-th, and extrapolate the others; each set of rows takes its steps in
            order.
        compiled: run the blocks through `torch.compile`.

    Raises:
        WeightsMismatchError: the embeddings are not what this model was made for.
    """

    @torch.no_grad()
    def __init__(
        self,
        transformer: PixCellTransformer2DModel,
        embeddings: Tensor,
        timesteps: Tensor,
        *,
        guidance_scale: float,
        guidance_interval: tuple[float, float] | None = None,
        block_cache: int | None = None,
        compiled: bool = False,
    ) -> None:
        check_tokens(transformer.config, embeddings.shape[1:])
        if transformer.use_additional_conditions:
            raise SettingsError(
                "this transformer asks for PixArt's resolution and aspect ratio, which PixCell "
                "does not have",
                "set use_additional_conditions to false in its config.json",
            )
        self._transformer = transformer
        self._count = len(embeddings)
        self._scale = guidance_scale
        self._guided = _guided_steps(timesteps, guidance_scale, guidance_interval)
        device, dtype = transformer.device, transformer.dtype
        modulation, embedded = transformer.adaln_single(
            copied(timesteps, device), None, batch_size=len(timesteps), hidden_dtype=dtype
        )
        null, condition = self._project(embeddings.to(device, dtype))
        modulation = modulation.unflatten(1, (6, -1))
        run = compiled_block() if compiled else run_block
        blocks = [
            PreparedBlock(block, modulation, null, condition, run)
            for block in transformer.transformer_blocks
        ]
        self._stack = Stack(blocks)
        if block_cache is not None:
            enable_block_cache(self._stack, len(blocks), block_cache)
        self._final = _fold_final(transformer, embedded)
        self._head = _prediction_head(transformer)

    def _project(self, embeddings: Tensor) -> tuple[Tensor | None, Tensor]:
        model = self._transformer
        null = model.project_condition(model.null_embedding(1)) if any(self._guided) else None
        return null, model.project_condition(embeddings)

    @torch.no_grad()
    def predict(self, latents: Tensor, step: int, rows: Rows = None) -> Tensor:
        """The guided prediction of one step.

        Args:
            latents: ``(b, C, H, W)`` as ``scheduler.scale_model_input`` gives.
            step: position in ``timesteps``.
            rows: which of the B conditions the ``b`` latents belong to; None: all.

        Returns:
            float32 ``(b, C, H, W)``, without the learned variance.

        Raises:
            WeightsMismatchError: the latents are not what this model was made for.
        """
        model = self._transformer
        expected = len(range(*rows.indices(self._count))) if rows else self._count
        check_latents(model.config, latents, expected)
        guided = self._guided[step]
        tokens: Tensor = model.pos_embed(latents.to(model.device, model.dtype))
        with cache_context(self._stack, rows, guided):
            for block in self._stack.transformer_blocks:
                tokens = block(tokens, step, rows, guided)
        shift, scale = self._final[step]
        tokens = F.layer_norm(tokens, tokens.shape[-1:], scale, shift, model.norm_out.eps)
        patches = F.linear(tokens, *self._head)
        _, channels, height, width = latents.shape
        prediction = model.unpatchify(patches, height, width, channels).float()
        if not guided:
            return prediction
        null, conditional = prediction.chunk(2)
        return null + self._scale * (conditional - null)


def _guided_steps(
    timesteps: Tensor, scale: float, interval: tuple[float, float] | None
) -> list[bool]:
    low, high = interval or (float("-inf"), float("inf"))
    return [scale != 1.0 and low <= float(step) <= high for step in timesteps]


def _fold_final(model: PixCellTransformer2DModel, embedded: Tensor) -> Tensor:
    """Bias and weight of the last norm at each step, ``(S, 2, D)``."""
    shift, scale = (model.scale_shift_table[None] + embedded[:, None]).unbind(1)
    return torch.stack([shift, 1 + scale], dim=1)


def _prediction_head(model: PixCellTransformer2DModel) -> Affine:
    """The output layer without its rows for the learned variance."""
    kept, channels = model.config.in_channels, model.out_channels
    width = model.proj_out.weight.shape[-1]
    weight = model.proj_out.weight.reshape(-1, channels, width)[:, :kept].flatten(0, 1)
    bias = model.proj_out.bias.reshape(-1, channels)[:, :kept].flatten()
    return Affine(weight, bias)
