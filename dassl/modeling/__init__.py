"""Registries of backbones and heads, for trainers that bring their own. CLIP is not built here."""

from dassl.utils import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")
HEAD_REGISTRY = Registry("HEAD")


def build_backbone(name: str, verbose: bool = True, **kwargs):
    """The backbone registered under a name."""
    if verbose:
        print(f"Backbone: {name}")
    return BACKBONE_REGISTRY.get(name)(**kwargs)


def build_head(name: str, verbose: bool = True, **kwargs):
    """The head registered under a name."""
    if verbose:
        print(f"Head: {name}")
    return HEAD_REGISTRY.get(name)(**kwargs)
