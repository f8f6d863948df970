"""What a run ends with where memory is full: one sentence that names the keys which take less."""

import contextlib

from dassl.utils import InputError
from dassl.utils.memory import is_out_of_memory
from dassl.utils.torchtools import device_of_run

from .record import RunRecord

HALF = ("fp16", "bf16", "amp")


@contextlib.contextmanager
def naming_what_takes_less(record: RunRecord, cfg):
    """Inside the record, which then says so too. What was saved before stays, and goes on."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(sentence(record, cfg)) from error


def sentence(record: RunRecord, cfg) -> str:
    on_gpu = device_of_run(cfg.USE_CUDA).type != "cpu"
    remedies = []
    if (bound := record.content["text_memory_mb"]) is not None:
        remedies.append(f"set TRAINER.MEMORY_MB below {bound:,.0f}, which it has now")
    remedies.append("lower DATALOADER.TRAIN_X.BATCH_SIZE, or in a test DATALOADER.TEST.BATCH_SIZE")
    for node, keys in cfg.TRAINER.items():
        precision = keys.get("PREC") if isinstance(keys, dict) else None
        if precision is not None and precision not in HALF and not (on_gpu and precision == "auto"):
            remedies.append(f"set TRAINER.{node}.PREC {'fp16' if on_gpu else 'bf16'}")
    left = ""
    if record.broke_off():
        left = (
            " Its last checkpoint is kept: with another TRAINER.MEMORY_MB the same command goes on from it, with another "
            "batch or precision --resume does."
        )
    return (
        f"The {'GPU' if on_gpu else 'machine'} has too little memory left for this run: {', or '.join(remedies)}.{left}"
    )
