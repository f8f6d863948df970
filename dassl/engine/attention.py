"""Which attention a training computes: PyTorch's fused one, or the plain one, which can be differentiated twice."""

import contextlib
from collections.abc import Iterator

from torch.nn.attention import SDPBackend, sdpa_kernel

from dassl.utils import InputError


@contextlib.contextmanager
def attention(way: str) -> Iterator[None]:
    """Under `with`, `F.scaled_dot_product_attention` is computed so; a second derivative that is not there is refused."""
    with sdpa_kernel(SDPBackend.MATH) if way == "plain" else contextlib.nullcontext():
        try:
            yield
        except RuntimeError as error:
            if "scaled_dot_product" not in str(error) or "derivative" not in str(error):
                raise
            raise InputError(
                "A gradient of a gradient is asked for, which fused attention does not have: set TRAIN.ATTENTION plain."
            ) from error
