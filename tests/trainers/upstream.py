"""A stand-in for upstream Dassl (KaiyangZhou/Dassl.pytorch, v0.6.3): its public names, as trainers see them, and no others.

Names, arguments and the order of events are upstream's; the code is as little as a short training takes. Functions
that both have are this repository's own.
"""

import contextlib
import importlib
import os
import sys
from collections import OrderedDict
from types import ModuleType

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from yacs.config import CfgNode

FUNCTIONS = {  # which are taken from here
    "dassl.config": "clean_cfg",
    "dassl.data.datasets": "Datum",
    "dassl.data.samplers": "build_sampler",
    "dassl.metrics": "compute_accuracy compute_distance_matrix cosine_distance euclidean_squared_distance",
    "dassl.optim": "build_lr_scheduler build_optimizer",
    "dassl.utils": """
        AverageMeter Logger MetricMeter Registry check_availability check_isfile collect_env_info count_num_param
        get_most_similar_str_to_a_from_b listdir_nohidden load_checkpoint load_pretrained_weights mkdir_if_missing
        open_all_layers open_specified_layers read_image read_json resume_from_checkpoint save_checkpoint
        set_random_seed setup_logger tolist_if_not write_json
    """,
}
KEYS = {
    "": "VERSION OUTPUT_DIR RESUME SEED USE_CUDA VERBOSE",
    "INPUT": """
        SIZE INTERPOLATION TRANSFORMS NO_TRANSFORM PIXEL_MEAN PIXEL_STD CROP_PADDING RRCROP_SCALE CUTOUT_N CUTOUT_LEN
        GN_MEAN GN_STD RANDAUGMENT_N RANDAUGMENT_M COLORJITTER_B COLORJITTER_C COLORJITTER_S COLORJITTER_H RGS_P GB_P
        GB_K
    """,
    "DATASET": """
        ROOT NAME SOURCE_DOMAINS TARGET_DOMAINS NUM_LABELED NUM_SHOTS VAL_PERCENT STL10_FOLD CIFAR_C_TYPE CIFAR_C_LEVEL
        ALL_AS_UNLABELED
    """,
    "DATALOADER": "NUM_WORKERS K_TRANSFORMS RETURN_IMG0",
    "DATALOADER.TRAIN_X": "SAMPLER BATCH_SIZE N_DOMAIN N_INS",
    "DATALOADER.TRAIN_U": "SAME_AS_X SAMPLER BATCH_SIZE N_DOMAIN N_INS",
    "DATALOADER.TEST": "SAMPLER BATCH_SIZE",
    "MODEL": "INIT_WEIGHTS",
    "MODEL.BACKBONE": "NAME PRETRAINED",
    "MODEL.HEAD": "NAME HIDDEN_LAYERS ACTIVATION BN DROPOUT",
    "OPTIM": """
        NAME LR WEIGHT_DECAY MOMENTUM SGD_DAMPNING SGD_NESTEROV RMSPROP_ALPHA ADAM_BETA1 ADAM_BETA2 STAGED_LR NEW_LAYERS
        BASE_LR_MULT LR_SCHEDULER STEPSIZE GAMMA MAX_EPOCH WARMUP_EPOCH WARMUP_TYPE WARMUP_CONS_LR WARMUP_MIN_LR
        WARMUP_RECOUNT
    """,
    "TRAIN": "CHECKPOINT_FREQ PRINT_FREQ COUNT_ITER",
    "TEST": "EVALUATOR PER_CLASS_RESULT COMPUTE_CMAT NO_TEST SPLIT FINAL_MODEL",
    "TRAINER": "NAME",
}


@contextlib.contextmanager
def upstream():
    """Within it, `dassl` is the stand-in, and `trainers` is imported anew over it; what is imported after is as before."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ("dassl", "trainers")}
    functions = {
        module: {name: getattr(importlib.import_module(module), name) for name in names.split()}
        for module, names in FUNCTIONS.items()
    }
    defaults = importlib.import_module("dassl.config").get_cfg_default()
    ours = [name for name in sys.modules if name.split(".")[0] == "dassl"]
    for name in ours:
        del sys.modules[name]
    try:
        put_in_place(stand_in(functions, defaults))
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in ("dassl", "trainers")]:
            del sys.modules[name]
        sys.modules.update(before)


def put_in_place(modules: dict[str, dict]) -> None:
    """Packages without a path: nothing but what stands here can be imported from them."""
    for name, content in modules.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(content)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, sys.modules[name])


def chosen(defaults, node: str = "") -> CfgNode:
    """The part of this repository's config that upstream has too."""
    kept = CfgNode({key: defaults[key] for key in KEYS[node].split() if key in defaults})
    prefix = f"{node}." if node else ""
    for inner in KEYS:
        last = inner.removeprefix(prefix)
        if inner.startswith(prefix) and last and "." not in last:
            kept[last] = chosen(defaults[last], inner)
    return kept


def stand_in(functions: dict[str, dict], defaults: CfgNode) -> dict[str, dict]:
    """The modules, in an order in which parents come first."""
    utils, Registry = functions["dassl.utils"], functions["dassl.utils"]["Registry"]
    build_sampler = functions["dassl.data.samplers"]["build_sampler"]
    TRAINER_REGISTRY, DATASET_REGISTRY = Registry("TRAINER"), Registry("DATASET")

    def build_transform(cfg, is_train=True, choices=None):
        flip = [transforms.RandomHorizontalFlip()] if is_train and "random_flip" in cfg.INPUT.TRANSFORMS else []
        resize = transforms.Resize(cfg.INPUT.SIZE, transforms.InterpolationMode(cfg.INPUT.INTERPOLATION))
        normalize = transforms.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
        return transforms.Compose([resize, *flip, transforms.ToTensor(), normalize])

    def build_dataset(cfg):
        return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)

    class DatasetBase:
        def __init__(self, train_x=None, train_u=None, val=None, test=None):
            self.train_x, self.train_u, self.val, self.test = train_x, train_u, val, test
            self.lab2cname = {item.label: item.classname for item in train_x}
            self.classnames = [self.lab2cname[label] for label in sorted(self.lab2cname)]
            self.num_classes = max(self.lab2cname) + 1

    class DatasetWrapper(Dataset):
        def __init__(self, cfg, data_source, transform=None, is_train=False):
            self.cfg, self.data_source, self.transform, self.is_train = cfg, data_source, transform, is_train
            self.k_tfm, self.return_img0, self.to_tensor = 1, False, None

        def __len__(self):
            return len(self.data_source)

        def __getitem__(self, idx):
            item = self.data_source[idx]
            image = self.transform(utils["read_image"](item.impath))
            return {"img": image, "label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}

    def build_data_loader(
        cfg, sampler_type="SequentialSampler", data_source=None, batch_size=64, n_domain=0, n_ins=2, tfm=None,
        is_train=True, dataset_wrapper=None,
    ):  # fmt: skip
        sampler = build_sampler(
            sampler_type, cfg=cfg, data_source=data_source, batch_size=batch_size, n_domain=n_domain, n_ins=n_ins
        )
        dataset = (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train)
        return DataLoader(
            dataset, batch_size=batch_size, sampler=sampler, drop_last=is_train and len(data_source) >= batch_size
        )

    class DataManager:
        def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
            self.dataset = dataset = build_dataset(cfg)
            train, test = (build_transform(cfg, is_train=is_train) for is_train in (True, False))
            part, size = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TEST.BATCH_SIZE
            self.train_loader_x = build_data_loader(cfg, part.SAMPLER, dataset.train_x, part.BATCH_SIZE, tfm=train)
            self.train_loader_u = None
            self.val_loader, self.test_loader = (
                build_data_loader(cfg, data_source=items, batch_size=size, tfm=test, is_train=False)
                for items in (dataset.val, dataset.test)
            )
            self.num_classes, self.num_source_domains, self.lab2cname = dataset.num_classes, 0, dataset.lab2cname

        def show_dataset_summary(self, cfg):
            pass

    class Classification:
        def __init__(self, cfg, lab2cname=None, **kwargs):
            self.reset()

        def reset(self):
            self._right = self._all = 0

        def process(self, mo, gt):
            self._right, self._all = self._right + (mo.argmax(1) == gt).sum().item(), self._all + len(gt)

        def evaluate(self):
            return OrderedDict(accuracy=100 * self._right / self._all)

    class TrainerBase:
        def __init__(self):
            self._models, self._optims, self._scheds, self._writer = OrderedDict(), OrderedDict(), OrderedDict(), None

        def register_model(self, name="model", model=None, optim=None, sched=None):
            self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

        def get_model_names(self, names=None):
            return list(self._models) if names is None else utils["tolist_if_not"](names)

        def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
            for name in self.get_model_names():
                parts = {
                    "state_dict": self._models[name],
                    "optimizer": self._optims[name],
                    "scheduler": self._scheds[name],
                }
                state = {key: None if part is None else part.state_dict() for key, part in parts.items()}
                utils["save_checkpoint"](
                    {**state, "epoch": epoch + 1, "val_result": val_result},
                    os.path.join(directory, name), is_best=is_best, model_name=model_name,
                )  # fmt: skip

        def resume_model_if_exist(self, directory):
            return 0

        def set_model_mode(self, mode="train", names=None):
            for name in self.get_model_names(names):
                self._models[name].train({"train": True, "eval": False, "test": False}[mode])

        def update_lr(self, names=None):
            for name in self.get_model_names(names):
                if self._scheds[name] is not None:
                    self._scheds[name].step()

        def detect_anomaly(self, loss):
            if not torch.isfinite(loss).all():
                raise FloatingPointError("Loss is infinite or NaN!")

        def init_writer(self, log_dir):
            pass

        def close_writer(self):
            pass

        def write_scalar(self, tag, scalar_value, global_step=None):
            pass

        def train(self, start_epoch, max_epoch):
            self.start_epoch, self.max_epoch = start_epoch, max_epoch
            self.before_train()
            for self.epoch in range(self.start_epoch, self.max_epoch):  # noqa: B020
                self.before_epoch()
                self.run_epoch()
                self.after_epoch()
            self.after_train()

        def before_epoch(self):
            pass

        def model_zero_grad(self, names=None):
            for name in self.get_model_names(names):
                if self._optims[name] is not None:
                    self._optims[name].zero_grad()

        def model_backward(self, loss):
            self.detect_anomaly(loss)
            loss.backward()

        def model_update(self, names=None):
            for name in self.get_model_names(names):
                if self._optims[name] is not None:
                    self._optims[name].step()

        def model_backward_and_update(self, loss, names=None):
            self.model_zero_grad(names)
            self.model_backward(loss)
            self.model_update(names)

    class SimpleTrainer(TrainerBase):
        def __init__(self, cfg):
            super().__init__()
            self.check_cfg(cfg)
            self.device = torch.device("cpu")
            self.start_epoch = self.epoch = 0
            self.max_epoch, self.output_dir, self.cfg = cfg.OPTIM.MAX_EPOCH, cfg.OUTPUT_DIR, cfg
            self.build_data_loader()
            self.build_model()
            self.evaluator = Classification(cfg, lab2cname=self.lab2cname)
            self.best_result = -float("inf")

        def check_cfg(self, cfg):
            pass

        def build_data_loader(self):
            self.dm = dm = DataManager(self.cfg)
            self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
            self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
            self.num_classes, self.num_source_domains = dm.num_classes, dm.num_source_domains
            self.lab2cname = dm.lab2cname

        def train(self):
            super().train(self.start_epoch, self.max_epoch)

        def before_train(self):
            self.start_epoch, self.time_start = self.resume_model_if_exist(self.output_dir), 0.0

        def after_train(self):
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                self.load_model(self.output_dir)
            self.last_result = self.test()

        def after_epoch(self):
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                self.best_result = self.test(split="val")
                self.save_model(
                    self.epoch, self.output_dir, val_result=self.best_result, model_name="model-best.pth.tar"
                )
            self.save_model(self.epoch, self.output_dir)

        @torch.no_grad()
        def test(self, split=None):
            self.set_model_mode("eval")
            self.evaluator.reset()
            for batch in self.val_loader if split == "val" else self.test_loader:
                images, labels = self.parse_batch_test(batch)
                self.evaluator.process(self.model_inference(images), labels)
            return next(iter(self.evaluator.evaluate().values()))

        def model_inference(self, input):
            return self.model(input)

        def parse_batch_test(self, batch):
            return batch["img"].to(self.device), batch["label"].to(self.device)

        def get_current_lr(self, names=None):
            return self._optims[self.get_model_names(names)[0]].param_groups[0]["lr"]

    class TrainerX(SimpleTrainer):
        def run_epoch(self):
            self.set_model_mode("train")
            self.num_batches = len(self.train_loader_x)
            for self.batch_idx, batch in enumerate(self.train_loader_x):  # noqa: B020
                self.forward_backward(batch)

    def build_trainer(cfg):
        return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)

    data = {
        "DataManager": DataManager, "DatasetWrapper": DatasetWrapper, "build_data_loader": build_data_loader,
        "build_dataset": build_dataset, "build_transform": build_transform, **functions["dassl.data.samplers"],
    }  # fmt: skip
    trainers = {"SimpleTrainer": SimpleTrainer, "TrainerBase": TrainerBase, "TrainerX": TrainerX}
    datasets = {"DATASET_REGISTRY": DATASET_REGISTRY, "DatasetBase": DatasetBase, "build_dataset": build_dataset}
    return {
        "dassl": {},
        "dassl.config": {**functions["dassl.config"], "get_cfg_default": lambda: chosen(defaults.clone())},
        "dassl.data": {"DataManager": DataManager, "DatasetWrapper": DatasetWrapper},
        "dassl.data.data_manager": data,
        "dassl.data.datasets": {**functions["dassl.data.datasets"], **datasets},
        "dassl.data.samplers": functions["dassl.data.samplers"],
        "dassl.data.transforms": {"build_transform": build_transform},
        "dassl.engine": {"TRAINER_REGISTRY": TRAINER_REGISTRY, "build_trainer": build_trainer, **trainers},
        "dassl.engine.trainer": trainers,
        "dassl.metrics": functions["dassl.metrics"],
        "dassl.optim": functions["dassl.optim"],
        "dassl.utils": utils,
    }
