"""The PixCell transformer: PixArt with image embeddings in place of a caption.

Key names, shapes and config keys are those of the released ``PixCell-256`` and ``PixCell-1024``
(608,072,960 parameters), so that their files load unchanged. The parts are diffusers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin, BasicTransformerBlock
from diffusers.models.embeddings import PatchEmbed, PixArtAlphaTextProjection
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.normalization import AdaLayerNormSingle
from torch import Tensor, nn

from pixcell_share.pixcell.positions import TokenPositions, patch_table, token_table


class CaptionProjection(PixArtAlphaTextProjection):  # type: ignore[misc]
    """Projects embeddings to the transformer's width, and keeps the null embedding.

    The null embedding (classifier-free guidance) is a fixed random buffer, never trained: what
    counts is the one that the checkpoint was trained with, so it belongs to the state dict.
    """

    uncond_embedding: Tensor

    def __init__(self, in_features: int, hidden_size: int, num_tokens: int) -> None:
        super().__init__(in_features=in_features, hidden_size=hidden_size)
        null = torch.randn(num_tokens, in_features) / in_features**0.5
        self.register_buffer("uncond_embedding", null)


class PixCellTransformer2DModel(
    ModelMixin,  # type: ignore[misc]
    AttentionMixin,  # type: ignore[misc]
    ConfigMixin,  # type: ignore[misc]
    PeftAdapterMixin,  # type: ignore[misc]
):
    """A diffusion transformer over VAE latents, conditioned on tile embeddings.

    Args:
        num_attention_heads: attention heads of a block.
        attention_head_dim: channels of a head; heads x this is the model's width (inner 1152).
        in_channels: latent channels (16 with the SD3 VAE).
        out_channels: predicted channels; the first ``in_channels`` are the prediction, the rest
            is learned variance. None: as ``in_channels``.
        num_layers: transformer blocks.
        dropout: dropout in attention and feed-forward.
        norm_num_groups: kept for the released config files; unused.
        cross_attention_dim: width of the projected embeddings. None: the model's width, which it
            must equal.
        attention_bias: biases in the attention projections.
        sample_size: latent pixels along one side of the image.
        patch_size: latent pixels along one side of a patch.
        activation_fn: activation of the feed-forward layers.
        num_embeds_ada_norm: kept for the released config files; unused with ``ada_norm_single``.
        upcast_attention: attention scores in float32.
        norm_type: only ``ada_norm_single`` exists.
        norm_elementwise_affine: weights in the block norms.
        norm_eps: epsilon of the block norms.
        interpolation_scale: patches per unit of position (PixCell: 0.5, 1 and 2 at 256, 512 and
            1024 px). None: ``max(sample_size // 64, 1)``, as in diffusers.
        use_additional_conditions: PixArt's resolution and aspect ratio inputs; PixCell has none,
            so say False. None: true for ``sample_size`` 128, as in diffusers.
        caption_channels: channels of an embedding (1536 with UNI2-h).
        caption_num_tokens: embeddings of an image: 1 at 256 px, 16 at 1024 px.
        attention_type: passed on to diffusers' blocks.

    Raises:
        ValueError: the widths or the norm do not fit together.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("BasicTransformerBlock", "PatchEmbed")
    _repeated_blocks = ("BasicTransformerBlock",)
    _skip_layerwise_casting_patterns = ("pos_embed", "norm", "adaln_single")

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        in_channels: int = 16,
        out_channels: int | None = 32,
        num_layers: int = 28,
        dropout: float = 0.0,
        norm_num_groups: int = 32,
        cross_attention_dim: int | None = None,
        attention_bias: bool = True,
        sample_size: int = 32,
        patch_size: int = 2,
        activation_fn: str = "gelu-approximate",
        num_embeds_ada_norm: int | None = 1000,
        upcast_attention: bool = False,
        norm_type: str = "ada_norm_single",
        norm_elementwise_affine: bool = False,
        norm_eps: float = 1e-6,
        interpolation_scale: float | None = None,
        use_additional_conditions: bool | None = None,
        caption_channels: int = 1536,
        caption_num_tokens: int = 1,
        attention_type: str = "default",
    ) -> None:
        super().__init__()
        if norm_type != "ada_norm_single":
            raise ValueError(f"norm_type must be 'ada_norm_single', not {norm_type!r}")
        width = num_attention_heads * attention_head_dim
        if cross_attention_dim not in (None, width):
            raise ValueError(f"cross_attention_dim must be {width} (heads x head dimension)")
        if use_additional_conditions is None:
            use_additional_conditions = sample_size == 128

        self.inner_dim = width
        self.out_channels = in_channels if out_channels is None else out_channels
        self.use_additional_conditions = use_additional_conditions
        self.gradient_checkpointing = False

        self.pos_embed = PatchEmbed(
            height=sample_size,
            width=sample_size,
            patch_size=patch_size,
            in_channels=in_channels,
            embed_dim=width,
            interpolation_scale=self.interpolation_scale,
        )
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                width,
                num_attention_heads,
                attention_head_dim,
                dropout=dropout,
                cross_attention_dim=width,
                activation_fn=activation_fn,
                num_embeds_ada_norm=num_embeds_ada_norm,
                attention_bias=attention_bias,
                upcast_attention=upcast_attention,
                norm_type=norm_type,
                norm_elementwise_affine=norm_elementwise_affine,
                norm_eps=norm_eps,
                attention_type=attention_type,
            )
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.proj_out = nn.Linear(width, patch_size**2 * self.out_channels)
        self.adaln_single = AdaLayerNormSingle(
            width, use_additional_conditions=use_additional_conditions
        )
        self.caption_projection = CaptionProjection(caption_channels, width, caption_num_tokens)
        self.y_pos_embed = (
            TokenPositions(
                caption_channels, caption_num_tokens, self._side, self.interpolation_scale
            )
            if caption_num_tokens > 1
            else None
        )

    @property
    def interpolation_scale(self) -> float:
        """Patches per unit of position, with diffusers' fallback for null."""
        scale = self.config.interpolation_scale
        return float(max(self.config.sample_size // 64, 1) if scale is None else scale)

    @property
    def _side(self) -> int:
        """Patches along one side of the image."""
        return int(self.config.sample_size // self.config.patch_size)

    def fill_tables(self) -> None:
        """Compute the position tables on the CPU: what a model built on ``meta`` lacks."""
        scale = self.interpolation_scale
        self.pos_embed.pos_embed = patch_table(self.inner_dim, self._side, scale)
        if self.y_pos_embed is not None:
            channels, tokens = self.config.caption_channels, self.config.caption_num_tokens
            self.y_pos_embed.y_pos_embed = token_table(channels, tokens, self._side, scale)

    def null_embedding(self, batch: int) -> Tensor:
        """The checkpoint's unconditional embedding, ``(batch, T, D)``, without positions."""
        null: Tensor = self.caption_projection.uncond_embedding
        return null.expand(batch, -1, -1)

    def project_condition(self, embeddings: Tensor) -> Tensor:
        """Embeddings ``(B, T, D)`` to the cross-attention's tokens ``(B, T, inner)``.

        With more than one token the positions are added first, to the null embedding too.
        """
        if self.y_pos_embed is not None:
            embeddings = self.y_pos_embed(embeddings)
        projected: Tensor = self.caption_projection(embeddings)
        return projected

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict from noisy latents.

        Args:
            hidden_states: latents ``(B, in_channels, H, W)``.
            encoder_hidden_states: embeddings ``(B, T, caption_channels)``.
            timestep: one time step for each image, ``(B,)``.
            added_cond_kwargs: PixArt's ``resolution`` and ``aspect_ratio``, where the config
                asks for them.
            cross_attention_kwargs: passed on to the attention processors.
            return_dict: return a ``Transformer2DModelOutput`` instead of a tuple.

        Returns:
            ``(B, out_channels, H, W)``: prediction, then learned variance.

        Raises:
            ValueError: a shape does not fit.
        """
        self._check(hidden_states, encoder_hidden_states, timestep, added_cond_kwargs)
        batch, _, height, width = hidden_states.shape
        tokens = self.pos_embed(hidden_states)
        modulation, embedded_time = self.adaln_single(
            timestep, added_cond_kwargs, batch_size=batch, hidden_dtype=tokens.dtype
        )
        condition = self.project_condition(encoder_hidden_states)
        for block in self.transformer_blocks:
            tokens = self._run_block(block, tokens, condition, modulation, cross_attention_kwargs)
        tokens = self._modulate_out(tokens, embedded_time)
        sample = self.unpatchify(self.proj_out(tokens), height, width, self.out_channels)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def _check(
        self, latents: Tensor, embeddings: Tensor, timestep: Tensor, added: dict[str, Tensor] | None
    ) -> None:
        batch = latents.shape[0]
        expected = (batch, self.config.caption_num_tokens, self.config.caption_channels)
        if tuple(embeddings.shape) != expected:
            raise ValueError(f"embeddings must be {expected}, not {tuple(embeddings.shape)}")
        if tuple(timestep.shape) != (batch,):
            raise ValueError(f"timestep must be ({batch},), not {tuple(timestep.shape)}")
        if self.use_additional_conditions and added is None:
            raise ValueError("this config has use_additional_conditions: give added_cond_kwargs")

    def _run_block(
        self,
        block: nn.Module,
        tokens: Tensor,
        condition: Tensor,
        modulation: Tensor,
        cross_attention_kwargs: dict[str, Any] | None,
    ) -> Tensor:
        arguments = (tokens, None, condition, None, modulation, cross_attention_kwargs, None)
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            checkpointed: Tensor = self._gradient_checkpointing_func(block, *arguments)
            return checkpointed
        output: Tensor = block(*arguments)
        return output

    def _modulate_out(self, tokens: Tensor, embedded_time: Tensor) -> Tensor:
        table = self.scale_shift_table[None] + embedded_time[:, None]
        shift, scale = table.chunk(2, dim=1)
        modulated: Tensor = self.norm_out(tokens) * (1 + scale) + shift
        return modulated

    def unpatchify(self, patches: Tensor, height: int, width: int, channels: int) -> Tensor:
        """``(B, rows * cols, p * p * C)`` to ``(B, C, height, width)``."""
        p = self.config.patch_size
        rows, cols = height // p, width // p
        patches = patches.reshape(-1, rows, cols, p, p, channels)
        patches = torch.einsum("nhwpqc->nchpwq", patches)
        return patches.reshape(-1, channels, rows * p, cols * p)
