"""Training steps against the field's usual ones, and images per second of all forms of Spotlighter.

Rows take their turns, round by round; ratios are taken within a round. Next to them stands a large square product in the
same precision: operations counted, divided by its rate, are the least time that a step could take.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fps.measure import interleave, measure_rows, square_product
from benchmarks.fps.predictors import Predictor, build_clip, build_rows, class_names
from benchmarks.statistics import quartiles
from benchmarks.steps import EMBEDDED, steps
from clip import InputError
from trainers.shared.prompted_clip import resolve_precision

from .cells import Settings, cell

METHODS = ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC", "Spotlighter")
WARM_UP = 3  # steps of each
COMPILED = [(method, way) for method in ("MaPLe", "PromptSRC") for way in ("graphs", "compile")]
KEEPS, CHOSEN = [1.0, 0.75, 0.6, 0.5], 0.6
BATCHES = (128, 512)  # of an evaluation
FAST = "Spotlighter KEEP 0.6"  # vit_b16_fast


def cells(settings: Settings) -> Iterator[dict]:
    for method in METHODS[:1] if settings.quick else METHODS:
        yield cell(settings, f"a step of {method}", lambda method=method: time_steps(settings, method))
    for batch in (2,) if settings.quick else BATCHES:
        yield cell(settings, f"evaluation, batch {batch}", lambda batch=batch: time_evaluation(settings, batch))


def compiled_cells(settings: Settings) -> Iterator[dict]:
    """The same steps by TRAIN.COMPILE: the first of each takes a minute or more."""
    if settings.quick:
        yield {"cell": "steps by TRAIN.COMPILE", "skipped": "with --quick nothing is compiled, as that takes minutes"}
        return
    for method, way in COMPILED:
        work = lambda method=method, way=way: time_compiled(settings, method, way)  # noqa: E731
        yield cell(settings, f"a step of {method}, TRAIN.COMPILE {way}", work)


# --- steps --------------------------------------------------------------------------------------------------------


def time_compiled(settings: Settings, method: str, way: str) -> dict:
    try:
        return time_steps(settings, method, ("TRAIN.COMPILE", way))
    except InputError as error:  # there is no compiler here
        return {"skipped": str(error)}


def time_steps(settings: Settings, method: str, options: tuple = ()) -> dict:
    """Ours and the field's, at the batch of the method's authors. Of compiled steps no operations are counted."""
    batch = 2 if settings.quick else None
    both = steps(method, settings.weights, settings.classes, batch, use_cuda=settings.use_cuda, options=options)
    trainer = both.trainer
    first = {"ours": float(both.ours()["loss"]), "theirs": both.theirs()["loss"]}  # at the same learned tensors
    for _ in range(WARM_UP):
        both.ours(), both.theirs()
    rows = [Predictor("theirs", learning(both.theirs)), Predictor("ours", learning(both.ours))]
    product, work = square_product(trainer.device, trainer.model.clip.dtype)
    here = torch.empty(1, device=trainer.device)
    timings = interleave([*rows, product], here, settings.rounds, settings.seconds)
    theirs, ours, products = ([timing.seconds for timing in own] for own in timings)
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    rate = work / statistics.median(products)
    trainer.readings.fetch()
    flops = {} if options else {"ours": count_flops(both.ours), "theirs": count_flops(both.theirs)}
    return {
        "precision": trainer.precision,
        "classes": settings.classes,
        "batch": batch or trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
        "first_loss": first,
        "ms": {"ours": 1000 * statistics.median(ours), "theirs": 1000 * statistics.median(theirs)},
        "times_theirs": statistics.median(ratios),
        "quartiles": list(quartiles(ratios)),
        "gflops": {who: count / 1e9 for who, count in flops.items()},
        "ms_at_least": {who: 1000 * count / rate for who, count in flops.items()},
        "issue_share": {row.name: statistics.median(one.issue for one in own) for row, own in zip(rows, timings, strict=False)},
        "attainable_gflops_per_second": rate / 1e9,
    }  # fmt: skip


def learning(step: Callable[[], dict]) -> Callable:
    """A step as a row among those that are timed without gradients."""

    def row(_):
        with torch.enable_grad():
            step()

    return row


def count_flops(step: Callable[[], dict]) -> float:
    """Floating-point operations of all matrix products and convolutions of a step, both ways; a step is taken for it."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # fused attention counts as the two products that it replaces
        step()
    return float(counter.get_total_flops())


# --- evaluation ---------------------------------------------------------------------------------------------------


def time_evaluation(settings: Settings, batch: int) -> dict:
    """The rows of `benchmarks.fps` in the precision of a run."""
    device, precision = settings.device, resolve_precision("auto", settings.device)
    backbone = EMBEDDED if settings.quick else "ViT-B/16"
    torch.manual_seed(0)
    model = build_clip(backbone, precision, device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        rows, _ = build_rows(
            backbone, model, class_names()[: settings.classes], [CHOSEN] if settings.quick else KEEPS, CHOSEN
        )
        side = model.visual.input_resolution
        images = torch.randn(batch, 3, side, side, device=device)
        record = measure_rows(rows, images, settings.rounds, settings.seconds, model.dtype)
    return {"backbone": backbone, "precision": precision, "classes": settings.classes, **record}
