"""Authors whose code is no Dassl trainer but a script: its own functions, called on the setting of `published_code.py`.

Each runner gets the script as a module, and gives what `published_code.run` gives of a trainer.
"""

import importlib
import itertools
import math
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F


def import_without_their_data_sets() -> None:
    """Scripts import data sets of their own, which nothing here reads."""
    stand_in = ModuleType("datasets")
    stand_in.build_dataset, stand_in.__path__ = None, []
    for name in ("utils", "imagenet"):
        part = ModuleType(f"datasets.{name}")
        part.build_data_loader = part.ImageNet = None
        sys.modules[f"datasets.{name}"] = part
    sys.modules["datasets"] = stand_in


class Pairs:
    """Batches as the scripts' loaders give them: images and labels."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return ((batch["img"], batch["label"]) for batch in self.batches)


class Setting:
    """What a script's `main` prepares: its CLIP, texts of the classes, and loaders of training and test images."""

    def __init__(self, script, root: Path, checkpoint: Path):
        from dassl.data import DataManager
        from dassl.data.data_manager import build_data_loader
        from tests import published_code as shared

        cfg = shared.config_of("", {}, root)
        data = DataManager(cfg)
        in_order = build_data_loader(
            cfg, data_source=data.dataset.train_x, tfm=data.test_loader.dataset.transform, is_train=False
        )
        state = torch.load(checkpoint, weights_only=True)
        self.clip = importlib.import_module("clip.model").build_model(state).float()
        self.shots, self.batches = Pairs(in_order), Pairs(shared.Batches(data.train_loader_x))
        self.test = script.pre_load_features({"load_pre_feat": False, "cache_dir": tempfile.mkdtemp()}, "test", self.clip, Pairs(data.test_loader))  # fmt: skip
        self.texts = script.clip_classifier(shared.CLASSES, ["a photo of a {}."], self.clip)  # (d, C)


def run_tip_adapter(script, root: Path, checkpoint: Path, trained: bool) -> dict:
    """Logits of the cache alone, and, of Tip-Adapter-F, what its training gives; ALPHA 1.17, BETA 1."""
    from tests.published_code import EPOCHS, figures

    setting = Setting(script, root, checkpoint)
    folder = tempfile.mkdtemp()
    cfg = {
        "load_cache": False, "cache_dir": folder, "shots": 2, "augment_epoch": 2, "init_beta": 1, "init_alpha": 1.17,
        "lr": 0.001, "train_epoch": EPOCHS,
    }  # fmt: skip
    with torch.no_grad():
        keys, values = script.build_cache_model(cfg, setting.clip, setting.shots)
    keys, values = keys.detach(), values.float()
    first, (features, labels) = keys.t().clone(), setting.test
    seen, losses, optimisers = [], [], []
    cross_entropy, adamw = F.cross_entropy, torch.optim.AdamW

    def loss(logits, target):
        losses.append(cross_entropy(logits, target))
        return losses[-1]

    def optimiser(parameters, **keywords):
        optimisers.append(adamw(parameters, **keywords))
        return optimisers[-1]

    def looked_at(logits, target):
        seen.append(logits.detach().double())
        return 100 * (logits.argmax(dim=1) == target).float().mean().item() + 1e-6  # above 0, so that an epoch is kept

    arguments = (cfg, keys, values, features, labels, features, labels, setting.texts)
    with (
        mock.patch.object(script, "cls_acc", looked_at),  # theirs needs an older NumPy
        mock.patch.object(script, "search_hp", lambda *_, **__: (1, 1.17)),
        mock.patch.object(script.F, "cross_entropy", loss),
        mock.patch.object(torch.optim, "AdamW", optimiser),
    ):
        script.run_tip_adapter(*arguments)
        before = seen[1]  # zero-shot CLIP's are the first
        if not trained:
            return {"logits before": before, "losses": torch.zeros(0), "logits after": before, "learned": {}}
        seen.clear()
        script.run_tip_adapter_F(*arguments, setting.clip, setting.batches)
    (weight,) = optimisers[0].param_groups[0]["params"]
    last = [logits for logits in seen if len(logits) == len(features)][EPOCHS - 1]
    learned = {"shape": list(first.shape), "first": figures(first), "change": figures(weight - first)}
    return {
        "logits before": before,
        "losses": torch.stack(losses).detach().double(),
        "logits after": last,
        "learned": {"keys": learned},
    }


GDA_PASSES = 7  # over the ten shots: its code takes the 64 features nearest to a new class's text


def run_gda(script, root: Path, checkpoint: Path, half: str = "") -> dict:
    """Logits with ALPHA 0.1: from few shots, of one pass over them; or from base to new, of the half's classes. In the latter
    the new classes have the base ones' names, which its code does not see.
    """
    setting, seen = Setting(script, root, checkpoint), []
    script.test_features, script.test_labels = script.val_features, script.val_labels = setting.test
    script.test_features_new, script.test_labels_new = setting.test
    texts = [setting.texts.detach()] * (2 if half else 1)

    def looked_at(logits, _):
        seen.append(logits.double())
        return len(seen) if len(seen) <= 4 else 0  # of the grid, the fourth is 0.1

    with mock.patch.object(script, "cls_acc", looked_at):
        script.run({"augment_epoch": GDA_PASSES if half else 1, "seed": 1}, setting.shots, *texts, setting.clip)
    logits = seen[-2] if half == "base" else seen[-1]
    return {"logits before": logits, "losses": torch.zeros(0), "logits after": logits, "learned": {}}


class SameDropout:
    """In place of PyTorch's: what is dropped follows from which of queries, keys and values it is for, and not from chance.
    x is all three (3, B, L, D), or (L, B, D) of one after the other.
    """

    def __init__(self):
        self.calls = itertools.count()

    def __call__(self, x, p=0.5, training=True, inplace=False):
        if not training:
            return x
        kept = torch.rand(3, x.shape[-1], generator=torch.Generator().manual_seed(0)) >= p  # (3, D)
        factor = kept / (1 - p)
        return x * (factor[:, None, None] if x.dim() == 4 else factor[next(self.calls) % 3])


def run_lora(script, root: Path, checkpoint: Path) -> dict:
    """Both encoders, rank 2, ALPHA 1, DROPOUT 0.25; the rate falls with each epoch, where theirs does with each step."""
    from dassl.data import DataManager
    from tests import published_code as shared
    from tests.published_code import figures

    cfg = shared.config_of("", {}, root)
    data = DataManager(cfg)
    train = Pairs(shared.Batches(data.train_loader_x))
    torch.manual_seed(cfg.SEED)
    model = importlib.import_module("clip.model").build_model(torch.load(checkpoint, weights_only=True)).float()
    chance, apply, layers, first, losses, seen = torch.get_rng_state(), script.apply_lora, [], {}, [], []

    def drawn(arguments, model):
        """They draw layers that are overwritten, too; the matrices are drawn again, as if there were no such."""
        layers.extend(apply(arguments, model))
        torch.set_rng_state(chance)
        for layer in layers:
            for part in (layer.q_proj, layer.k_proj, layer.v_proj):
                part.init_lora_param()
        first.update(matrices())
        return layers

    def matrices() -> dict[str, torch.Tensor]:
        """Those of all blocks and of queries, keys and values together."""
        towers = {"text": layers[: shared.LAYERS], "visual": layers[shared.LAYERS :]}
        parts = ("q_proj", "k_proj", "v_proj")
        return {
            f"lora.{tower}.{name}": torch.stack(
                [torch.stack([getattr(getattr(block, part), f"w_lora_{name}") for part in parts]) for block in blocks]
            ).detach()
            for tower, blocks in towers.items()
            for name in "AB"
        }

    def loss(logits, target, cross_entropy=F.cross_entropy):
        losses.append(cross_entropy(logits, target))
        return losses[-1]

    def looked_at(logits, _):
        seen.append(logits.detach().double())
        return 0.0

    def by_epoch(optimiser, steps, eta_min):
        return torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: (1 + math.cos(math.pi * (step // len(train)) / shared.EPOCHS)) / 2
        )

    arguments = SimpleNamespace(
        encoder="both", position="all", backbone="ViT-B/16", params=["q", "k", "v"], r=2, alpha=1, dropout_rate=0.25,
        n_iters=shared.EPOCHS * len(train), shots=1, lr=0.002, save_path=None, eval_only=False,
    )  # fmt: skip
    test, index = Pairs(data.test_loader), {"all": range(shared.LAYERS)}
    dataset = SimpleNamespace(classnames=shared.CLASSES, template=["a photo of a {}."])
    positions = importlib.import_module("loralib.utils")
    with (
        mock.patch.object(script, "apply_lora", drawn),
        mock.patch.object(script, "cls_acc", looked_at),  # theirs needs an older NumPy
        mock.patch.object(script.F, "cross_entropy", loss),
        mock.patch.object(script.F, "dropout", SameDropout()),
        mock.patch.object(torch.optim.lr_scheduler, "CosineAnnealingLR", by_epoch),
        mock.patch.object(positions, "INDEX_POSITIONS_TEXT", index),
        mock.patch.dict(positions.INDEX_POSITIONS_VISION, {"ViT-B/16": index}),
    ):
        script.run_lora(arguments, model, 100, dataset, train, test, test)
    last = matrices()
    return {
        "logits before": seen[0],
        "losses": torch.stack(losses).detach().double(),
        "logits after": 100 * torch.cat(seen[1 + len(losses) :]),
        "learned": {
            name: {"shape": list(value.shape), "first": figures(value), "change": figures(last[name] - value)}
            for name, value in first.items()
        },
    }


RUNNERS = {
    "CLIPLoRA": run_lora,
    "GDA": run_gda,
    "GDA base": lambda *parts: run_gda(*parts, half="base"),
    "GDA new": lambda *parts: run_gda(*parts, half="new"),
    "TipAdapter": lambda *parts: run_tip_adapter(*parts, trained=False),
    "TipAdapterF": lambda *parts: run_tip_adapter(*parts, trained=True),
}
