"""The loss on class tokens (Caron et al., arXiv:2104.14294), as DINOv2 weighs it.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/loss/dino_clstoken_loss.py`` and the sums of
``dinov2/train/ssl_meta_arch.py``.
"""

from __future__ import annotations

from torch import Tensor

from pixcell_share.ssl.losses.cross_entropy import STUDENT_TEMPERATURE, cross_entropy


def dino_loss(
    global_logits: Tensor,
    local_logits: Tensor,
    targets: Tensor,
    temperature: float = STUDENT_TEMPERATURE,
) -> Tensor:
    """Mean cross-entropy over all pairs of a student's crop and another global crop.

    Args:
        global_logits: (2, B, K) of the student.
        local_logits: (L, B, K) of the student; L may be 0.
        targets: (2, B, K) of the teacher's global crops: distributions.
        temperature: of the student.

    Returns:
        Scalar: each of the ``2 + 2 L`` pairs counts alike.
    """
    # Each global crop learns from the other, each local crop from both.
    across = cross_entropy(global_logits, targets.flip(0), temperature).mean(1).sum()
    both = targets.sum(0)
    local = cross_entropy(local_logits, both[None], temperature).sum() / len(both)
    return (across + local) / (2 + 2 * len(local_logits))
