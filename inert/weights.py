"""Weights by their names: out of the dict that wraps them, without what other code put before the names."""

from collections.abc import Collection

from torch import Tensor

from .pickles import Inert

WRAPPERS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "model.", "clip.", "_orig_mod.")  # DataParallel, a module around the model, torch.compile


def in_own_names(state: dict, own: Collection[str] = ()) -> dict:
    """The same without prefixes. A name in `own`, the names of the model to be loaded, stays as it is."""
    renamed = {name: without_prefixes(name, own) for name in state}
    return {new: state[name] for name, new in renamed.items() if new == name or new not in renamed}


def without_prefixes(name: str, own: Collection[str] = ()) -> str:
    while name not in own and name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def weights_of(loaded, own: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the dict around it; empty where there are none.

    What else `own` names, a module's extra state, is kept too where it is whole.
    """
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        return {}
    state = in_own_names({name: value for name, value in loaded.items() if isinstance(name, str)}, own)
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) or (name in own and not not_loaded(value))
    }


def not_loaded(value) -> list[str]:
    """The names of the objects in a tree of plain containers that were not loaded. Each container is looked through once,
    as one may be in another many times, or in itself.
    """
    names, seen, left = [], set(), [value]
    while left:
        value = left.pop()
        if isinstance(value, Inert):
            names.append(value.name)
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            left += reversed([*inner])
    return names
