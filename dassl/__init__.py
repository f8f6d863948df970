"""The engine: Dassl's public API (Zhou et al., "Domain Generalization with MixStyle", ICLR 2021, brought it into use),
written anew for today's Python and PyTorch.
"""

__version__ = "1.0"
