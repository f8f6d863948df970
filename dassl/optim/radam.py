"""RAdam (Liu et al., ICLR 2020) is part of PyTorch; the import path is Dassl's."""

from torch.optim import RAdam as RAdam
