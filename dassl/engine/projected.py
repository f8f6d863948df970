"""Steps that forks of Dassl have beside `model_backward_and_update`: they follow a part of the gradient alone.

Trainer files that were written for those forks call them by these names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.utils import InputError


def without_conflict(gradient: Tensor, general: Tensor, strength: float) -> Tensor:
    """The gradient less, where the two are opposed, `strength` times its projection on the general one (of one shape)."""
    direction = F.normalize(general.flatten(), dim=0).view_as(general)
    return gradient - strength * (gradient * direction).sum().clamp(max=0) * direction


class ProjectedSteps:
    """For a trainer with registered models."""

    U: Tensor | None = None  # (r, n) orthonormal rows, which a trainer of SubPT's sets

    def learned(self, names=None) -> list[Tensor]:
        """The tensors that are trained, of all registered models or those named, in their order."""
        models = [self._models[name] for name in self.get_model_names(names)]
        return [tensor for model in models for tensor in model.parameters() if tensor.requires_grad]

    def prograd_backward_and_update(self, loss_a: Tensor, loss_b: Tensor, lambda_: float = 1, names=None) -> None:
        """A step that lowers `loss_a` and, to first order, does not raise `loss_b`, in each tensor for itself.

        Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023, eq. 4: a gradient of `loss_a` that is opposed to
        that of `loss_b` loses `lambda_` times its part in that direction.
        """
        self.model_zero_grad(names)
        learned = self.learned(names)
        self.detect_anomaly(loss_b)
        general = torch.autograd.grad(loss_b, learned, retain_graph=True, allow_unused=True)
        self.model_backward(loss_a)
        for tensor, theirs in zip(learned, general, strict=True):
            if tensor.grad is not None and theirs is not None:
                tensor.grad = without_conflict(tensor.grad, theirs, lambda_)
        self.model_update(names)

    def model_subspace_backward_and_update(self, loss: Tensor, names=None) -> None:
        """A step along the gradient's part in the space of `self.U` (r, n), n being how many numbers are learned.

        Ma et al., "Understanding and Mitigating Overfitting in Prompt Tuning for Vision-Language Models", TCSVT 2023: its
        rows are the main directions in which the first epochs have moved what is learned; g becomes Uᵀ U g.
        """
        self.model_zero_grad(names)
        self.model_backward(loss)
        moved = [tensor for tensor in self.learned(names) if tensor.grad is not None]
        sizes = [tensor.numel() for tensor in moved]
        if self.U is None or self.U.dim() != 2 or self.U.shape[1] != sum(sizes):
            found = "none" if self.U is None else f"of shape {tuple(self.U.shape)}"
            raise InputError(
                f"{type(self).__name__} follows the directions in self.U, which must be (r, {sum(sizes)}) for the "
                f"{sum(sizes)} numbers that are learned, and there are {found}: compute them for this very setting."
            )
        gradient = torch.cat([tensor.grad.flatten() for tensor in moved])  # (n,)
        U = self.U.to(gradient)
        for tensor, part in zip(moved, (U.t() @ (U @ gradient)).split(sizes), strict=True):
            tensor.grad.copy_(part.view_as(tensor))
        self.model_update(names)
