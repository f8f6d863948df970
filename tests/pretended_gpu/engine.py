"""What the engine and the runs do on a GPU, beside computing: functions for the process that has one."""

import contextlib
from unittest import mock

import pytest
import torch
import torch.nn.functional as F


def drawn() -> list[float]:
    return torch.randn(3, device="gpu").tolist()


def random_numbers_go_on(gpu, written: str, folder: str) -> None:
    """Where one GPU is visible, a run that broke off where there were 8, or another number, goes on with its numbers."""
    from dassl.utils import resume_from_checkpoint, save_checkpoint
    from dassl.utils.resume import random_states

    torch.manual_seed(5)
    model = torch.nn.Linear(2, 2).to("gpu")
    gpu.backend.devices = 8
    states = random_states(gpu.device)
    assert gpu.backend.asked == {0} and len(states["cuda"]) == 1
    if written == "by a former version":
        states["cuda"] = torch.cuda.get_rng_state_all()
    expected = drawn()
    if written == "on a CPU":
        states["cuda"], expected = random_states()["cuda"], None
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 1, "random_states": states}, folder)

    gpu.backend.devices, before = 1, torch.cuda.get_rng_state()
    resume_from_checkpoint(folder, model)
    if expected is None:
        assert torch.equal(torch.cuda.get_rng_state(), before)
    else:
        assert drawn() == expected
    resume_from_checkpoint(folder, torch.nn.Linear(2, 2))  # a run that goes on on the CPU draws nothing from a GPU


def other_gpus_are_not_asked(gpu) -> None:
    """While the random numbers are put back that a loader takes, and those of Spotlighter's mapping modules."""
    from trainers.shared.clip_trainer import random_numbers_kept

    gpu.backend.devices = 8
    state = torch.cuda.get_rng_state()
    gpu.backend.asked.clear()
    with random_numbers_kept(gpu.device):
        drawn()
    assert gpu.backend.asked == {0} and torch.equal(torch.cuda.get_rng_state(), state)
    gpu.backend.asked.clear()
    with random_numbers_kept(torch.device("cpu")):
        torch.randn(1)
    assert gpu.backend.asked == set()


def auto_is_fp16(gpu) -> None:
    from dassl.utils import device_of_run
    from trainers.shared.prompted_clip import resolve_precision

    assert device_of_run() == torch.device("gpu") and device_of_run(use_cuda=False) == torch.device("cpu")
    assert resolve_precision("auto", device_of_run()) == "fp16"
    assert resolve_precision("auto", device_of_run(use_cuda=False)) == "fp32"


def what_is_not_deterministic_is_refused(gpu, line: list[str], refused: bool) -> None:
    """A loss with the gradient of a bilinear reading, which CUDA sums up in any order; afterwards all is as before."""
    import train
    from trainers.shared.clip_trainer import ClipTrainer

    compute = ClipTrainer.compute_loss

    def with_reading(self, images, labels):
        loss, shown = compute(self, images, labels)
        learned = self.model.prompt_learner.ctx[None, None]
        read = F.grid_sample(learned, torch.zeros(1, 1, 1, 2, device=learned.device), align_corners=False)
        return loss + read.sum(), shown

    says = pytest.raises(RuntimeError, match="grid_sampler_2d_backward does not have a deterministic implementation")
    with mock.patch.object(ClipTrainer, "compute_loss", with_reading), says if refused else contextlib.nullcontext():
        assert train.main(line) == 0
    assert not torch.are_deterministic_algorithms_enabled()
