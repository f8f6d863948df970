"""Full memory (one_run/room.py): one sentence, exit code 2, and a run that goes on with less."""

import errno

import numpy as np
import pytest
import torch

import train
from dassl.engine.trainer import SimpleTrainer
from dassl.utils.memory import is_out_of_memory
from tests.helpers import arguments, results
from trainers.shared.clip_trainer import ClipTrainer


def too_much_for_pytorch():
    torch.empty(2**60, dtype=torch.uint8)


def too_much_for_numpy():
    np.empty(2**60, dtype=np.uint8)


def raised(action) -> BaseException:
    with pytest.raises(Exception) as caught:
        action()
    return caught.value


def test_what_says_so():
    assert is_out_of_memory(raised(too_much_for_pytorch)) and is_out_of_memory(raised(too_much_for_numpy))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))  # of a worker's fork
    assert is_out_of_memory(RuntimeError("Caught RuntimeError in DataLoader worker: can't allocate memory"))
    for other in (RuntimeError("shapes differ"), OSError(errno.ENOSPC, "full"), ValueError("out of memory")):
        assert not is_out_of_memory(other)


@pytest.mark.parametrize("full", [too_much_for_pytorch, too_much_for_numpy])
def test_a_run_goes_on_with_less(data_root, tmp_path, monkeypatch, capsys, full):
    """Memory is full in the second epoch's second step; the first epoch is saved."""
    step = ClipTrainer.forward_backward

    def until_full(self, batch):
        if (self.epoch, self.batch_idx) == (1, 1) and self.cfg.TRAINER.MEMORY_MB == 0:
            full()
        return step(self, batch)

    monkeypatch.setattr(ClipTrainer, "forward_backward", until_full)
    assert train.main(arguments(data_root, tmp_path)) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(
        "error: The machine has too little memory left for this run: set TRAINER.MEMORY_MB below "
    )
    for remedy in (
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        "DATALOADER.TEST.BATCH_SIZE",
        "set TRAINER.COOP.PREC bf16",
        "--resume",
    ):
        assert remedy in sentence
    record = results(tmp_path)
    assert record["state"] == "failed" and "too little memory" in record["why"]
    learned = tmp_path / "prompt_learner"
    assert sorted(path.name for path in learned.iterdir()) == ["checkpoint", "model.pth.tar-1"]

    assert train.main(arguments(data_root, tmp_path, options=["TRAINER.MEMORY_MB", 300])) == 0
    assert "(will resume training)" in capsys.readouterr().out
    record = results(tmp_path)
    assert record["state"] == "finished" and record["epoch"] == 3
    assert record["resumed"]["changed"] == []


def test_full_before_anything_is_saved(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SimpleTrainer, "announce", lambda self: too_much_for_pytorch())
    assert train.main(arguments(data_root, tmp_path)) == 2
    assert "checkpoint" not in capsys.readouterr().err
    assert results(tmp_path)["state"] == "failed" and not (tmp_path / "prompt_learner").exists()
