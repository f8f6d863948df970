"""Numbers that wait to be read (../dassl/utils/readings.py), and what the engine makes of them. No GPU is needed: here
a CPU's tensors wait too."""

import re

import pytest
import torch

from dassl.config import merge_options
from dassl.engine import build_trainer
from dassl.engine.stopwatch import Stopwatch
from dassl.utils import MetricMeter, Readings, readings

from .test_engine import Linear, config, run


@pytest.fixture
def fetched(monkeypatch):
    """How many numbers were fetched each time."""
    counts, fetch = [], Readings.fetch

    def counting(self):
        tensors = sum(torch.is_tensor(value) for value, _ in self.waiting)
        counts.extend([tensors] if tensors else [])
        fetch(self)

    monkeypatch.setattr(readings, "computes_later", torch.is_tensor)
    monkeypatch.setattr(Readings, "fetch", counting)
    return counts


def test_numbers_are_used_in_their_order(fetched):
    numbers, used = Readings(), []
    numbers.add(0.5, used.append)
    assert used == [0.5]  # nothing came before
    numbers.add(torch.tensor(1.0), used.append)
    numbers.add(2.0, used.append)
    numbers.then(lambda: used.append("line"))
    numbers.add(torch.tensor([3]), used.append)
    assert used == [0.5]
    numbers.fetch()
    assert used == [0.5, 1.0, 2.0, "line", 3] and fetched == [2]
    numbers.fetch()
    assert len(used) == 5


def test_a_cpu_has_computed_what_it_gives():
    numbers, used = Readings(), []
    numbers.add(torch.tensor(1.0), used.append)
    numbers.add(torch.tensor(2), used.append)
    assert used == [1.0, 2] and isinstance(used[1], int)


def test_a_number_is_what_it_was_when_it_came(fetched):
    numbers, used, value = Readings(), [], torch.tensor(1.0, requires_grad=True)
    numbers.add(value * 1, used.append)
    assert not numbers.waiting[0][0].requires_grad  # else the graph behind it is kept
    running = torch.tensor(0.1, dtype=torch.float64)
    for _ in range(2):
        numbers.add(running, used.append)
        running *= 3
    numbers.fetch()
    assert used == [1.0, 0.1, 0.1 * 3]
    with pytest.raises(RuntimeError):
        numbers.add(torch.zeros(2), used.append)  # where it came, not later


def test_so_many_wait_and_no_more(fetched, monkeypatch):
    monkeypatch.setattr(readings, "MOST", 3)
    numbers, used = Readings(), []
    for i in range(4):
        numbers.add(torch.tensor(i), used.append)
    assert used == [0, 1, 2] and fetched == [3]


def test_meters_read_when_somebody_looks(fetched):
    """The same bits as where each is read at once."""
    values = torch.randn(7, generator=torch.Generator().manual_seed(0))
    meter, other = MetricMeter(), MetricMeter()
    for value in values:
        meter.update({"loss": value, "acc": 1.0})
        other.update({"loss": value.item(), "acc": 1.0})
    assert not fetched
    assert meter.meters["loss"].avg == other.meters["loss"].avg and str(meter) == str(other)
    assert fetched == [7]


# --- training ---------------------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[str]:
    return [re.sub(r"(time|data|eta) \S+( \(\S+\))?", "", line) for line in text.splitlines() if "epoch [" in line]


def with_a_tensor(step):
    """A step that shows a number that is a tensor, beside those that it has read itself."""
    return lambda self, batch: {**step(self, batch), "mean": self.model[2].bias.mean()}


def scalars(monkeypatch) -> list:
    from dassl.engine import TrainerX

    seen: list = []
    monkeypatch.setattr(TrainerX, "write_scalar", lambda self, *point: seen.append(point))
    return seen


@pytest.mark.parametrize("frequency, points", [(2, 1), (3, 1), (10, 3)])
def test_one_reading_a_line(data_root, tmp_path, capsys, monkeypatch, request, frequency, points):
    """Epochs of three batches. Lines, averages and what is learned are what they are where nothing waits."""
    monkeypatch.setattr(Linear, "forward_backward", with_a_tensor(Linear.forward_backward))
    options = ["OPTIM.MAX_EPOCH", 2, "TRAIN.PRINT_FREQ", frequency, "TEST.NO_TEST", True]
    seen = scalars(monkeypatch)
    expected = run(config(data_root, tmp_path / "a", *options)).model.state_dict()
    lines, written = lines_of(capsys.readouterr().out), list(seen)
    seen.clear()
    fetched = request.getfixturevalue("fetched")
    monkeypatch.setattr(Linear, "check_learned", lambda self: None)
    learned = run(config(data_root, tmp_path / "b", *options)).model.state_dict()
    assert lines_of(capsys.readouterr().out) == lines and len(lines) == 2 * points and seen == written
    assert all(torch.equal(learned[name], value) for name, value in expected.items())
    # Of each batch a loss and whether it is finite; at the end of an epoch what is left.
    assert fetched == {2: [4, 2] * 2, 3: [6] * 2, 10: [6] * 2}[frequency]


def test_points_of_tensorboard_stand_where_lines_do(data_root, tmp_path, monkeypatch):
    seen = scalars(monkeypatch)
    run(config(data_root, tmp_path, "OPTIM.MAX_EPOCH", 2, "TRAIN.PRINT_FREQ", 2, "TEST.NO_TEST", True))
    assert [(tag, step) for tag, _, step in seen if tag == "train/loss"] == [("train/loss", 1), ("train/loss", 4)]


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("frequency", [1, 2, 10])
def test_a_loss_that_is_no_number_is_refused_later_and_named(data_root, tmp_path, fetched, first, frequency):
    """In the batch in which it began, however many there were since, and before anything is saved."""
    cfg = config(data_root, tmp_path, "TRAIN.PRINT_FREQ", frequency, "OPTIM.MAX_EPOCH", 1)
    trainer = build_trainer(cfg)
    steps = []

    def step(batch):
        steps.append(trainer.batch_idx)
        images, labels, *_ = trainer.parse_batch_train(batch)
        loss = torch.nn.functional.cross_entropy(trainer.model(images), labels)
        trainer.model_backward_and_update(loss * torch.nan if trainer.batch_idx >= first else loss)
        return {"loss": loss}

    trainer.forward_backward = step
    with pytest.raises(FloatingPointError, match=f"infinite or NaN in epoch 1, batch {first + 1}:"):
        trainer.train()
    assert steps[-1] == min(2, -(-(first + 1) // frequency) * frequency - 1)  # at the next line, or the epoch's end
    assert not list(tmp_path.rglob("*.tar*"))


def test_a_trainer_with_an_epoch_of_its_own(data_root, tmp_path, fetched):
    """Nothing reads there; what it ends in is looked at before it is saved all the same."""
    trainer = build_trainer(config(data_root, tmp_path))
    ends = []
    trainer.run_epoch = lambda: trainer.detect_anomaly(torch.tensor(torch.inf))
    trainer.after_epoch = lambda: ends.append(trainer.epoch)
    with pytest.raises(FloatingPointError, match="infinite or NaN in epoch 1"):
        trainer.train()
    assert not ends
    trainer.detect_anomaly(torch.tensor(torch.inf))
    with pytest.raises(FloatingPointError, match="infinite or NaN in epoch"):
        trainer.save_model(0, str(tmp_path))
    assert not list(tmp_path.rglob("*.tar*"))


def test_what_is_learned_is_looked_at_in_one_go(data_root, tmp_path, fetched):
    trainer = build_trainer(config(data_root, tmp_path))
    trainer.check_learned()
    assert fetched == [len([*trainer.model.parameters(), *trainer.model.buffers()])] and fetched[0] > 1
    with torch.no_grad():
        trainer.model[2].bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"2\.bias of linear is infinite or NaN"):
        trainer.check_learned()


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_logits_that_are_no_numbers_are_named_at_the_end(data_root, tmp_path, fetched, monkeypatch):
    cfg = config(data_root, tmp_path)
    merge_options(cfg, ["DATALOADER.TEST.BATCH_SIZE", 4])
    trainer = build_trainer(cfg)
    infer, batches = trainer.model_inference, []

    def spoilt(images):
        batches.append(len(images))
        return infer(images).index_fill(0, torch.tensor([2]), torch.nan) if len(batches) in (3, 4) else infer(images)

    trainer.model_inference = spoilt
    with pytest.raises(FloatingPointError) as caught:
        trainer.test()
    named = trainer.dm.dataset.test[4 * 2 + 2].impath
    assert f"The logits of {named} are infinite or NaN" in str(caught.value) and len(batches) == 5
    monkeypatch.setattr("dassl.engine.trainer.READ_EVERY", 3)
    batches.clear()
    with pytest.raises(FloatingPointError, match=re.escape(named)):
        trainer.test()
    assert len(batches) == 3  # a large test is looked at on the way


def test_a_test_reads_once(data_root, tmp_path, fetched):
    trainer = build_trainer(config(data_root, tmp_path, "DATALOADER.TEST.BATCH_SIZE", 4))
    trainer.test()
    assert fetched == [5] and trainer.test_images_per_second > 0


# --- how long it takes ------------------------------------------------------------------------------------------------


def test_a_gpus_work_is_timed_by_marks_of_its_own(monkeypatch):
    """A mark is reached when all before it is done, which is long after the program has set it."""
    clock = iter([10.0, 40.0, 100.0, 150.0])  # milliseconds; between 40 and 100 the GPU waits for pictures
    events = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.waited_for = False
            events.append(self)

        def record(self):
            self.at = next(clock)

        def synchronize(self):
            self.waited_for = True

        def elapsed_time(self, later):
            return later.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    stopwatch = Stopwatch(torch.device("cuda"))
    for _ in range(2):
        with stopwatch:
            pass
    assert stopwatch.total() == pytest.approx(0.08) and stopwatch.total() == pytest.approx(0.08)
    assert [event.waited_for for event in events] == [False, False, False, True]


def test_a_cpus_work_is_timed_by_the_clock(monkeypatch):
    clock = iter([1.0, 1.5, 9.0, 9.25])
    monkeypatch.setattr("dassl.engine.stopwatch.time.perf_counter", lambda: next(clock))
    stopwatch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with stopwatch:
            pass
    assert stopwatch.total() == 0.75
