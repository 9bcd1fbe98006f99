"""The loss on masked patches (Zhou et al., arXiv:2111.07832), as DINOv2 weighs it.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/loss/ibot_patch_loss.py``.
"""

from __future__ import annotations

from torch import Tensor

from pixcell_share.ssl.losses.cross_entropy import STUDENT_TEMPERATURE, cross_entropy


def ibot_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    crops: int,
    temperature: float = STUDENT_TEMPERATURE,
) -> Tensor:
    """Cross-entropy of masked patches: mean over the patches of a crop, then over all crops.

    Args:
        logits: (M, K) of the student, for the M masked patches of the batch.
        targets: (M, K) of the teacher, which sees the patches: distributions.
        weights: (M,): one over the number of masked patches in the patch's crop.
        crops: global crops of the batch, also those without a mask.
        temperature: of the student.

    Returns:
        Scalar; 0 where nothing is masked.
    """
    return (cross_entropy(logits, targets, temperature) * weights).sum() / crops
