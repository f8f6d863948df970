"""What is said of exported files beside the run (deploy/comparing.py)."""

import numpy as np
import torch

from deploy.comparing import AT_MOST, compare


def test_no_number_is_as_far_as_can_be():
    batches = [(torch.tensor([[0.25, 0.75]]), torch.tensor([1]))]
    files = {"same": lambda images: images, "lost": lambda images: images * np.float32("nan")}
    found = compare(lambda images: images, files, batches)
    assert found["same"]["largest_difference"] == 0 and found["lost"]["largest_difference"] == 1 > AT_MOST
