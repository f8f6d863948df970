"""Top-k accuracy of a batch."""

import torch


def compute_accuracy(output, target: torch.Tensor, topk: tuple[int, ...] = (1,)) -> list[torch.Tensor]:
    """Logits (B, C), or a tuple whose first entry they are, and labels (B,) -> for each k a tensor (1,), in percent."""
    if isinstance(output, (tuple, list)):
        output = output[0]
    ranked = output.topk(max(topk), dim=1).indices  # (B, k)
    hit = ranked == target[:, None]
    return [hit[:, :k].any(dim=1).float().sum().view(1) * (100.0 / len(target)) for k in topk]
