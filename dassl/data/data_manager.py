"""Loaders over a data set's parts."""

import torch
import torchvision.transforms as T
from torch.utils.data import Dataset as TorchDataset

from dassl.utils import InputError, read_image

from .datasets import build_dataset
from .samplers import build_sampler
from .transforms import INTERPOLATION_MODES, build_transform, is_fixed


def build_data_loader(
    cfg,
    sampler_type: str = "SequentialSampler",
    data_source=None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm=None,
    is_train: bool = True,
    dataset_wrapper=None,
) -> torch.utils.data.DataLoader:
    """Batches of a list of items. The last, incomplete batch of a training epoch is dropped if there is a full one."""
    if not data_source:
        raise InputError("A loader was asked for over no images: check the data set's folder, split and class half.")
    sampler = build_sampler(
        sampler_type, cfg=cfg, data_source=data_source, batch_size=batch_size, n_domain=n_domain, n_ins=n_ins
    )
    return torch.utils.data.DataLoader(
        (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )


class DataManager:
    """A data set with its loaders: `train_loader_x`, `train_loader_u`, `val_loader`, `test_loader`."""

    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        dataset = build_dataset(cfg)
        tfm_train = custom_tfm_train or build_transform(cfg, is_train=True)
        tfm_test = custom_tfm_test or build_transform(cfg, is_train=False)

        def loader(items, part, tfm, is_train):
            if not items:
                return None
            return build_data_loader(
                cfg,
                sampler_type=part.SAMPLER,
                data_source=items,
                batch_size=part.BATCH_SIZE,
                n_domain=part.get("N_DOMAIN", 0),
                n_ins=part.get("N_INS", 2),
                tfm=tfm,
                is_train=is_train,
                dataset_wrapper=dataset_wrapper,
            )

        parts = cfg.DATALOADER
        self.train_loader_x = loader(dataset.train_x, parts.TRAIN_X, tfm_train, True)
        self.train_loader_u = loader(
            dataset.train_u, parts.TRAIN_X if parts.TRAIN_U.SAME_AS_X else parts.TRAIN_U, tfm_train, True
        )
        self.val_loader = loader(dataset.val, parts.TEST, tfm_test, False)
        self.test_loader = loader(dataset.test, parts.TEST, tfm_test, False)
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self.dataset, self.tfm_train, self.tfm_test = dataset, tfm_train, tfm_test
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes

    @property
    def num_source_domains(self) -> int:
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self.dataset.lab2cname

    def show_dataset_summary(self, cfg) -> None:
        rows = [("Dataset", cfg.DATASET.NAME)]
        for name, domains in (("Source", cfg.DATASET.SOURCE_DOMAINS), ("Target", cfg.DATASET.TARGET_DOMAINS)):
            if domains:
                rows.append((name, ", ".join(domains)))
        rows.append(("# classes", f"{self.num_classes:,}"))
        rows += [
            (f"# {part}", f"{len(getattr(self.dataset, part)):,}")
            for part in ("train_x", "train_u", "val", "test")
            if getattr(self.dataset, part)
        ]
        print("\n".join(f"{name:<10} {value}" for name, value in [("-" * 9, "-" * 9), *rows, ("-" * 9, "-" * 9)]))


class DatasetWrapper(TorchDataset):
    """Items as dicts: `img` (a list of versions where K_TRANSFORMS > 1), `label`, `domain`, `impath`, `index`, and
    `img0`, the picture without augmentation, where RETURN_IMG0 asks for it.

    Training images that come out the same every time are decoded once and kept, as far as KEEP_MB goes.
    """

    def __init__(self, cfg, data_source, transform=None, is_train: bool = False):
        self.cfg, self.data_source, self.transform, self.is_train = cfg, data_source, transform, is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise InputError(
                f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, and there is no transform: remove INPUT.NO_TRANSFORM."
            )
        self.kept: dict[int, dict] = {}
        self.room = cfg.DATALOADER.KEEP_MB * 2**20 if is_train and is_fixed(transform) else 0  # bytes
        plain = [T.Resize(cfg.INPUT.SIZE, INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            plain.append(T.Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(plain)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict:
        if index in self.kept:
            return dict(self.kept[index])
        output = self._read(index)
        if self.room > 0:
            tensors = [part for value in output.values() for part in (value if isinstance(value, list) else [value])]
            self.room -= sum(part.nbytes for part in tensors if torch.is_tensor(part))
            self.kept[index] = dict(output)
        return output

    def _read(self, index: int) -> dict:
        item = self.data_source[index]
        image = read_image(item.impath)
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index}
        if self.transform is None:
            output["img"] = image
        elif isinstance(self.transform, (list, tuple)):  # several transforms: img, img2, img3, ...
            for number, transform in enumerate(self.transform):
                output["img" if number == 0 else f"img{number + 1}"] = self._transformed(transform, image)
        else:
            output["img"] = self._transformed(self.transform, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _transformed(self, transform, image):
        versions = [transform(image) for _ in range(self.k_tfm)]
        return versions[0] if len(versions) == 1 else versions
