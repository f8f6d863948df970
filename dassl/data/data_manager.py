"""Loaders over a data set's parts."""

import contextlib
import functools
import itertools
import os
import signal

import numpy as np
import torch
from PIL import Image

from dassl.utils import InputError, check_folder, cores, read_image

from .cache import Kept, OnDisk, begins_with_tensor, files_of, split
from .chance import SeededBatches, next_number
from .datasets import build_dataset
from .samplers import build_sampler
from .transforms import build_transform, plain_transform

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that tell a process to end


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
    return Loader(
        (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=min(cfg.DATALOADER.NUM_WORKERS, cores()),  # more would only wait for each other
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )


class Loader(torch.utils.data.DataLoader):
    """PyTorch's, of which the number of workers changes the speed and nothing else.

    Each pass takes a number from the run's generator, and the chance in the transforms of a batch follows from it.
    A signal to a whole group of processes ends the workers without a word: it is for the main process to tell.
    """

    def __init__(self, *args, worker_init_fn=None, **how):
        super().__init__(*args, worker_init_fn=functools.partial(begin_worker, worker_init_fn), **how)

    def __iter__(self):
        if isinstance(self.dataset, DatasetWrapper):
            self.dataset.prepare()  # workers are to share it
        if isinstance(self.dataset, SeededBatches):
            self.dataset.base_seed = next_number()  # which PyTorch takes for its workers' seeds, without workers too
        with workers_beginning():
            batches = super().__iter__()
        if self.num_workers:
            return batches
        # Workers ask for the order of the items at once, and the order is drawn when it is asked for.
        return itertools.chain(list(itertools.islice(batches, 1)), batches)


@contextlib.contextmanager
def workers_beginning():
    """Signals wait until each worker can take them: PyTorch's own effect is that the main process fails."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def begin_worker(more, number: int) -> None:
    for each in SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as SIGHUP is under nohup
            signal.signal(each, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if more is not None:
        more(number)


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
        if parts.TEST.CACHE_DIR and self.test_loader and isinstance(self.test_loader.dataset, DatasetWrapper):
            self.test_loader.dataset.cache_on_disk(parts.TEST.CACHE_DIR)
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


class DatasetWrapper(SeededBatches):
    """Items as dicts: `img` (a list of versions where K_TRANSFORMS > 1), `label`, `domain`, `impath`, `index`, and
    `img0`, the picture without augmentation, where RETURN_IMG0 asks for it.

    Training images are decoded once and kept in memory, as far as KEEP_MB goes.
    """

    pictures = True  # whether `img` is wanted; without it nothing is read

    def __init__(self, cfg, data_source, transform=None, is_train: bool = False):
        self.cfg, self.data_source, self.is_train = cfg, data_source, is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise InputError(
                f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, and there is no transform: remove INPUT.NO_TRANSFORM."
            )
        self.to_tensor = plain_transform(cfg)
        self.transform = transform

    @property
    def transform(self):
        return self._transform

    @transform.setter
    def transform(self, transform) -> None:
        """Trainers may exchange it; what is stored depends on it."""
        self._transform, self.store = transform, None
        self.first, self.rest, self.size = split(transform)
        if self.return_img0:  # which is made of the whole picture
            (self.first, _, self.size), self.rest = split(None), transform
        self.takes_arrays = self.size is not None and begins_with_tensor(self.rest)
        if self.is_train and self.cfg.DATALOADER.KEEP_MB > 0:
            paths, room = [item.impath for item in self.data_source], self.cfg.DATALOADER.KEEP_MB * 2**20
            self.store = Kept(paths, room, self.size)

    def cache_on_disk(self, folder: str) -> None:
        """Take the pictures from a file in `folder`; the first iteration makes it if it is not there.

        A folder that cannot be made or written to is refused, unless it has files of the data set that may do.
        """
        if self.size is None:
            print("DATALOADER.TEST.CACHE_DIR is not used: the test images are not brought to one size first.")
            return
        paths, cfg = [item.impath for item in self.data_source], self.cfg
        if not files_of(cfg.DATASET.NAME, folder):
            check_folder("DATALOADER.TEST.CACHE_DIR", folder)
        self.store = OnDisk(
            folder, cfg.DATASET.NAME, paths, cfg.DATASET.ROOT, self.first, self.size, cfg.DATALOADER.NUM_WORKERS
        )

    def prepare(self) -> None:
        """Make the store of pictures ready, if it is not; in the main process, before there are workers."""
        if self.store is not None and self.pictures:
            self.store.open()

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict:
        if torch.utils.data.get_worker_info() is None:
            self.prepare()
        item = self.data_source[index]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index}
        if not self.pictures:
            return {"img": torch.empty(0), **output}
        image = self._picture(item.impath)
        if self.rest is None:
            output["img"] = image
        elif isinstance(self.rest, (list, tuple)):  # several transforms: img, img2, img3, ...
            for number, transform in enumerate(self.rest):
                output["img" if number == 0 else f"img{number + 1}"] = self._transformed(transform, image)
        else:
            output["img"] = self._transformed(self.rest, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _picture(self, path: str) -> Image.Image | np.ndarray:
        """What the rest of the transform takes: a picture, or its array (H, W, 3), which gives the same tensor."""
        pixels = None if self.store is None else self.store.get(path)
        if pixels is None:
            image = self.first(read_image(path))
            if self.store is not None:
                self.store.put(path, np.asarray(image))
            return image
        return pixels if self.takes_arrays else Image.fromarray(pixels)

    def _transformed(self, transform, image):
        versions = [transform(image) for _ in range(self.k_tfm)]
        return versions[0] if len(versions) == 1 else versions
