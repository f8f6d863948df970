"""CLIP's published prompts for ImageNet under the names that trainer files written for CoOp import.

`IMAGENET_TEMPLATES` are all 80, `IMAGENET_TEMPLATES_SELECT` the 7 that do as well: lists of texts with `{}` for the
class name, read when they are first asked for.
"""

from .shared.prompts import imagenet_templates

LISTS = {
    "IMAGENET_TEMPLATES": "OPENAI_IMAGENET_TEMPLATES",
    "IMAGENET_TEMPLATES_SELECT": "SIMPLE_IMAGENET_TEMPLATES",
}


def __getattr__(name: str) -> list[str]:
    if name in LISTS:
        return list(imagenet_templates(LISTS[name]))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
