"""Does each part of Spotlighter earn its place? Base-to-new on the embedded sets, seed by seed, part by part.

    python -m datasets.embedded --root data
    python -m benchmarks.ablation --root data                           # about an hour on two cores; goes on where it stopped
    python -m datasets.embedded --root data-2 --world 2
    python -m benchmarks.ablation --root data-2 --rows core --name world2

Every number comes from the method's own code: the trainer is built as `train.py` builds it, the host runs its own
epochs, the head fits itself. Only the loader is replaced: image features are computed once, for the image side is
frozen and the embedded configs augment nothing. Settings are compared on the same images and the same host.

A cell is one set and one seed; its accuracies go to `<work>/<name>/<set>_<seed>.json` as soon as they are known.
The table averages H over sets first, then takes a Student-t interval (95%) over the seeds' paired differences.
"""

import argparse
import contextlib
import io
import json
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import fmean, stdev

import torch
from scipy.stats import t as student

import train
from clip.tokens import DropTokens
from dassl.engine import build_trainer
from dassl.utils import InputError, read_image, replace_file, set_random_seed, write_json
from trainers.spotlighter import (
    ZOOM_WIDTHS,
    Shots,
    SpotlighterHead,
    Zoom,
    choose_zoom,
    fit_scalars,
)
from trainers.zoom import grid_places

REPOSITORY = Path(__file__).resolve().parent.parent
FIRST_FIVE = ("shapes", "textures", "compounds", "scenes", "species")
CROWDED = ("clutter", "small")  # where what surrounds the object matters
SETS = (*FIRST_FIVE, *CROWDED)
HOSTS = {
    "CoOp, 4 initialised tokens": ["TRAINER.SPOTLIGHTER.HOST", "CoOp"],
    "CoOp, 16 random tokens": ["TRAINER.SPOTLIGHTER.HOST", "CoOp", "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "16"],
}  # fmt: skip
MAIN = next(iter(HOSTS))
CHOSEN_KEEP = 0.6
ENCODERS = {  # what drops tokens, beside the whole encoder: KEEP, SCORE, GRID
    "KEEP 0.75": (0.75, "probe", 0.75),
    "KEEP 0.6": (CHOSEN_KEEP, "probe", 0.75),
    "KEEP 0.5": (0.5, "probe", 0.75),
    "KEEP 0.5, attention": (0.5, "attention", 0.0),
    "KEEP 0.5, probe without grid": (0.5, "probe", 0.0),
    "KEEP 0.5, grid alone": (0.5, "probe", 1.0),
    "KEEP 0.5, random": (0.5, "random", 0.0),
    "KEEP 0.5, oracle": (0.5, "oracle", 0.0),
}
# Rows that differ in score or grid alone run on fewer sets and seeds, as each trains its own host.
SCORE_SETS, SCORE_SEEDS = ("scenes", "species", *CROWDED), (1, 2, 3)
CORE = ("KEEP 0.6",)
BATCH = 32  # of the encoder: what fits the cache of a core is faster


# --- a trainer whose images are rows of a table --------------------------------------------------------------


class OracleDrop(DropTokens):
    """Keeps the patches that the object's box covers most; a control that knows where the object is."""

    cover = None  # (B, G * G), set before each batch

    def score(self, x, patches, i):
        return self.cover + 1e-3 * torch.rand(self.cover.shape)


def build(
    root: str,
    set_name: str,
    seed: int,
    host: str,
    half: str,
    keep: float = 1.0,
    score: str = "probe",
    grid: float = 0.0,
):
    """The trainer of a run, as train.py builds it; its seed is set as there."""
    options = [
        "DATASET.NUM_SHOTS", 16, "DATASET.SUBSAMPLE_CLASSES", half, "USE_CUDA", False, "VERBOSE", False,
        "TRAINER.SPOTLIGHTER.ZOOM", 3, "TRAINER.SPOTLIGHTER.KEEP", keep, "TRAINER.SPOTLIGHTER.GRID", grid,
        "TRAINER.SPOTLIGHTER.SCORE", "random" if score == "oracle" else score, *HOSTS[host],
    ]  # fmt: skip
    configs = REPOSITORY / "configs"
    arguments = [
        "--root", root, "--seed", seed, "--trainer", "Spotlighter",
        "--dataset-config-file", configs / "datasets" / f"embedded_{set_name}.yaml",
        "--config-file", configs / "trainers" / "Spotlighter" / "embedded.yaml", *options,
    ]  # fmt: skip
    cfg = train.build_config(train.parse_arguments([str(part) for part in arguments]))
    set_random_seed(seed)
    trainer = build_trainer(cfg)
    if score == "oracle":
        trainer.head.drop.__class__ = OracleDrop
    return trainer


class Table:
    """The images of some items, and where the object is: images (n, 3, H, W), y (n,), boxes (n, 3) or None.

    `features` keeps regions (n, Z, d) that were looked at again, by control, map and width.
    """

    def __init__(self, trainer, items, root: Path):
        self.images = torch.stack([trainer.dm.tfm_test(read_image(item.impath)) for item in items])
        self.y = torch.tensor([item.label for item in items])
        boxes = root / "boxes.json"
        places = json.loads(boxes.read_text()) if boxes.is_file() else {}
        names = [Path(item.impath).relative_to(root / "images").as_posix() for item in items]
        self.boxes = torch.tensor([places[name] for name in names]) if names[0] in places else None
        self.features: dict = {}

    def cover(self, side: int) -> torch.Tensor:
        """(n, G * G): how much of each patch lies within the object's box, a square of 1.7 radii."""
        size = self.images.shape[-1]
        edge, step, reach = torch.arange(side) * size / side, size / side, 0.85 * self.boxes[:, 2:]
        overlap = [
            (torch.minimum(edge + step, c + reach) - torch.maximum(edge, c - reach)).clamp_min(0)
            for c in (self.boxes[:, :1], self.boxes[:, 1:2])
        ]  # x and y, (n, G) each
        return (overlap[1][:, :, None] * overlap[0][:, None]).flatten(1)

    @torch.no_grad()
    def encode(self, trainer) -> None:
        """Class tokens f (n, d), patch tokens v (n, N, d) and attention maps (n, 2, G * G) under the trainer's edits."""
        drop = trainer.head.drop
        parts = []
        for rows in torch.arange(len(self.y)).split(BATCH):
            if isinstance(drop, OracleDrop):
                drop.cover = self.cover(round(len(drop.coverage) ** 0.5))[rows]
            f, v = trainer.model.image_features(self.images[rows], tokens=True)
            parts.append((f, v, trainer.maps.maps))
        self.f, self.v, self.maps = map(torch.cat, zip(*parts, strict=True))

    @torch.no_grad()
    def windows(self, trainer, activation: torch.Tensor, width: float, count: int) -> torch.Tensor:
        """Class tokens (n, Z, d) of the regions where an activation (n, G * G) is strongest."""
        parts = zip(self.images.split(BATCH), activation.split(BATCH), strict=True)
        return torch.cat([trainer.look_again(images, a, width, count) for images, a in parts])

    def activation(self, how: str, zoom_map: int = 0) -> torch.Tensor:
        """(n, G * G): where to look again, by the method or by one of the controls."""
        n, patches = self.maps.shape[0], self.maps.shape[2]
        places = grid_places(round(patches**0.5))
        if how == "own":
            return self.maps[:, zoom_map]
        if how == "random":
            return torch.rand(n, patches, generator=torch.Generator().manual_seed(n))
        target = torch.full((n, 2), 0.5) if how == "centre" else self.boxes[:, :2] / self.images.shape[-1]
        return -100 * (places - target[:, None]).norm(dim=-1)


@torch.no_grad()
def shots_of(trainer, table: Table, how: str = "own", count: int = 3) -> Shots:
    """The shots as the trainer would encode them, with the regions of the method or of a control."""
    maps = range(2) if how == "own" else range(1)
    again = [[table.windows(trainer, table.activation(how, m), w, count) for w in ZOOM_WIDTHS] for m in maps]
    return Shots(table.f, table.v, table.y, torch.stack([torch.stack(widths, dim=1) for widths in again], dim=1))


def train_host(trainer, table: Table) -> None:
    """The host's own epochs, over rows of the table in place of images."""
    data = [{"img": i, "label": int(y), "index": i} for i, y in enumerate(table.y)]
    size = trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    trainer.train_loader_x = torch.utils.data.DataLoader(data, size, shuffle=True, drop_last=len(data) >= size)
    trainer.max_epoch = trainer.cfg.OPTIM.MAX_EPOCH
    trainer.remembered["image"] = table.f
    for epoch in range(trainer.max_epoch):
        trainer.epoch = epoch
        trainer.run_epoch()
    trainer.set_model_mode("eval")


# --- rows of the table -----------------------------------------------------------------------------------------


class RandomTokens(SpotlighterHead):
    """Chance in place of both activations."""

    def activations(self, f, v, classes, image_mean, semantic=True):
        noise = torch.rand(v.shape[:2], generator=torch.Generator().manual_seed(len(v)))
        return noise, torch.zeros_like(noise)


class Texts:
    """Text features of base and new classes, from the host's prompts and zero-shot."""

    def __init__(self, base, new):
        new.model.prompt_learner.load_state_dict(base.model.prompt_learner.state_dict())
        with torch.no_grad():
            self.t = {"base": base.model.text_features(), "new": new.model.text_features()}
        self.z = {"base": base.zero_shot, "new": new.zero_shot}
        self.names = {"base": base.dm.dataset.classnames, "new": new.dm.dataset.classnames}

    def without_host(self):
        """The same with zero-shot prompts in place of the host's."""
        other = object.__new__(Texts)
        other.t, other.z, other.names = self.z, self.z, self.names
        return other


def accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return 100 * (logits.argmax(dim=1) == y).double().mean().item()


def plain(tables: dict, texts: dict) -> list[float]:
    """A prompt's own accuracies, base and new."""
    return [accuracy(tables[half].f @ texts[half].t(), tables[half].y) for half in ("base", "new")]


@torch.no_grad()
def score(head, shots: Shots, texts: Texts, tables: dict, trainer=None, how: str = "own") -> list[float]:
    """Accuracies, base and new, of a head that remembers the shots; with its second look if it zooms."""
    head.remember(shots, texts.t["base"], texts.z["base"], texts.names["base"])
    result = []
    for half in ("base", "new"):
        table, classes = tables[half], head.describe(texts.t[half], texts.z[half], texts.names[half])
        again = None
        if head.zoom is not None:
            key, most = (how, *head.zoom[:2]), 3 if how in ("own", "random") else 1
            if key not in table.features:
                table.features[key] = table.windows(
                    trainer, table.activation(how, head.zoom.map), head.zoom.width, most
                )
            again = table.features[key][:, : head.zoom.count]  # the strongest region is the first
        rows = torch.arange(len(table.y)).split(500)
        logits = [head(table.f[r], table.v[r], classes, None if again is None else again[r]) for r in rows]
        result.append(accuracy(torch.cat(logits), table.y))
    return result


def make_head(trainer, kind=SpotlighterHead, **changes) -> SpotlighterHead:
    """A fresh head with initial scalars, some of them changed; lists and numbers as in `Scalars`."""
    options = {name: changes.pop(name) for name in ("kept", "prototypes", "levels", "full") if name in changes}
    head = kind(trainer.head.logit_scale, **options)
    with torch.no_grad():
        for name, value in changes.items():
            getattr(head.scalars, name).copy_(torch.as_tensor(value, dtype=torch.float))
    return head


HOST_ALONE = {"g": 0.0, "b": 0.0, "alpha": 0.0, "delta": 0.0}  # with these the head is its host
HEADS = {  # name: changes to the head that starts from the initial scalars
    "+ centring": {"b": 0.0, "alpha": 0.0},
    "+ anchor": {"alpha": 0.0},
    "+ bank map, no tokens": {"omega": [1.0, 0.0, 0.0]},
    "+ selected tokens (initial scalars)": {},
    "one level": {"levels": 1},
    "sample-wise activation alone": {"theta": [1.0, 0.0]},
    "semantic-wise activation alone": {"theta": [0.0, 1.0]},
    "random tokens": {"kind": RandomTokens},
    "R = 1": {"kept": 1},
    "R = 3": {"kept": 3},
    "R = 10": {"kept": 10},
    "K = 1": {"prototypes": 1},
    "K = 10": {"prototypes": 10},
}


def fitted(trainer, shots: Shots, texts: Texts, seed: int, levels: float = 0.0, full: int = 0) -> SpotlighterHead:
    """A head whose scalars are fitted as in a training run."""
    head = make_head(trainer, full=full)
    keys = trainer.cfg.TRAINER.SPOTLIGHTER.clone()
    keys.defrost()
    keys.LOSS.LEVELS = levels
    fit_scalars(head, shots, texts.t["base"], texts.z["base"], keys, seed)
    return head


def zooms(trainer, head, shots: Shots, texts: Texts, tables: dict, seed: int, most: int, how: str = "own"):
    """Accuracies with the second look that held-out shots choose, and that choice."""
    head.zoom = choose_zoom(head, shots, texts.t["base"], texts.z["base"], most, seed)
    result = score(head, shots, texts, tables, trainer, how)
    chosen, head.zoom = head.zoom, None
    return result, None if chosen is None else list(chosen)


def tables_of(base, new, folder: Path, images: int) -> dict[str, Table]:
    """The shots, and the first `images` test images of each base and new class."""

    def first(items):
        rank: dict = {}
        return [
            item for item in items if rank.setdefault(item.label, []).append(item) or len(rank[item.label]) <= images
        ]

    parts = {"train": base.dm.dataset.train_x, "base": first(base.dm.dataset.test), "new": first(new.dm.dataset.test)}
    return {name: Table(base, items, folder) for name, items in parts.items()}


def whole_encoder(root: str, set_name: str, seed: int, rows: str, images: int) -> dict:
    """All rows with every token kept: {host: {row: [base, new]}}, and what was chosen."""
    folder, result, choices = Path(root).resolve() / f"embedded_{set_name}", {}, {}
    tables, shots = {}, {}
    for host in HOSTS if rows == "all" else [MAIN]:
        base, new = (build(root, set_name, seed, host, half) for half in ("base", "new"))
        if not tables:
            tables = tables_of(base, new, folder, images)
            for table in tables.values():
                table.encode(base)
            controls = {"own": 3, "random": 3}
            if rows == "all":
                controls |= {"centre": 1} | ({"oracle": 1} if tables["train"].boxes is not None else {})
            shots = {how: shots_of(base, tables["train"], how, count) for how, count in controls.items()}
        own = shots["own"]
        train_host(base, tables["train"])
        texts = Texts(base, new)
        found = result.setdefault(host, {})
        found["zero-shot CLIP"], found["host alone"] = plain(tables, texts.z), plain(tables, texts.t)
        for name, changes in HEADS.items() if rows == "all" else ():
            found[name] = score(make_head(base, **changes), own, texts, tables)
        head = fitted(base, own, texts, seed)
        found["Spotlighter"] = score(head, own, texts, tables)
        if rows == "all" and host == MAIN:
            found["HEAD full"] = score(fitted(base, own, texts, seed, full=own.f.shape[1]), own, texts, tables)
            found["with level losses"] = score(fitted(base, own, texts, seed, levels=0.5), own, texts, tables)
        for most in (1, 3) if rows == "all" else (3,):
            found[f"Spotlighter, ZOOM {most}"], choices[f"{host}, ZOOM {most}"] = zooms(
                base, head, own, texts, tables, seed, most
            )
        if host != MAIN:
            continue
        for how, part in shots.items():
            if how != "own":
                most = 3 if how == "random" else 1
                name = f"ZOOM, {how} region{'s' if most == 3 else ''}"
                found[name], choices[name] = zooms(base, head, part, texts, tables, seed, most, how)
        zoom = choices[f"{host}, ZOOM 3"]  # its regions serve these too
        head, without = make_head(base, **HOST_ALONE), texts.without_host()
        head.zoom = zoom and Zoom(*zoom)
        found["host alone, ZOOM 3"] = score(head, own, texts, tables, base)
        head = fitted(base, own, without, seed)
        found["zero-shot CLIP + head"] = score(head, own, without, tables)
        head.zoom = zoom and Zoom(*zoom)
        found["zero-shot CLIP + head, ZOOM 3"] = score(head, own, without, tables, base)
    return {"accuracies": result, "choices": choices}


def dropping(root: str, set_name: str, seed: int, names, images: int) -> dict:
    """Rows with tokens dropped inside the encoder; the host is trained on what is left: {row: [base, new]}."""
    folder, result, tables = Path(root).resolve() / f"embedded_{set_name}", {}, {}
    for name in names:
        keep, by, grid = ENCODERS[name]
        if by == "oracle" and tables and tables["train"].boxes is None:
            continue
        base = build(root, set_name, seed, MAIN, "base", keep, by, grid)
        new = build(root, set_name, seed, MAIN, "new", keep, by, grid)
        if not tables:
            tables = tables_of(base, new, folder, images)
        base.survey_shots()
        for table in tables.values():
            table.features = {}
            table.encode(base)
        train_host(base, tables["train"])
        texts = Texts(base, new)
        result[f"{name}: host alone"] = plain(tables, texts.t)
        zoomed = name in CORE
        shots = (
            shots_of(base, tables["train"])
            if zoomed
            else Shots(tables["train"].f, tables["train"].v, tables["train"].y)
        )
        head = fitted(base, shots, texts, seed)
        result[name] = score(head, shots, texts, tables)
        if zoomed:
            result[f"{name}, ZOOM 3"], _ = zooms(base, head, shots, texts, tables, seed, 3)
    return result


def run_cell(root: str, set_name: str, seed: int, rows: str, images: int, path: str) -> str:
    torch.set_num_threads(1)
    start = time.time()
    with contextlib.redirect_stdout(io.StringIO()):
        cell = whole_encoder(root, set_name, seed, rows, images)
        scores = set_name in SCORE_SETS and seed in SCORE_SEEDS
        names = [name for name in ENCODERS if rows == "all" and (scores or "," not in name)]
        cell["accuracies"][MAIN] |= dropping(root, set_name, seed, names or CORE, images)
    write_json(
        {"set": set_name, "seed": seed, "rows": rows, "images": images, "seconds": time.time() - start, **cell}, path
    )
    return f"{set_name}, seed {seed}: {time.time() - start:.0f} s"


# --- the table ---------------------------------------------------------------------------------------------------


def harmonic(pair) -> float:
    base, new = pair
    return 2 * base * new / (base + new) if base + new else 0.0


def interval(differences: list[float]) -> tuple[float, float]:
    """Mean and half the width of Student's 95% interval."""
    if len(differences) < 2:
        return fmean(differences), math.nan
    half = student.ppf(0.975, len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
    return fmean(differences), half


class Results:
    """All cells of a run: accuracies by host, row, set and seed."""

    def __init__(self, cells: list[dict]):
        self.cells = {(cell["set"], cell["seed"]): cell["accuracies"] for cell in cells}
        self.sets = [name for name in SETS if any(key[0] == name for key in self.cells)]
        self.seeds = sorted({seed for _, seed in self.cells})

    def rows(self, host: str) -> list[str]:
        return list(dict.fromkeys(row for cell in self.cells.values() for row in cell[host]))

    def seeds_of(self, host: str, row: str) -> list[int]:
        """The seeds at which some set has the row."""
        return [seed for seed in self.seeds if any(row in self.cells[name, seed][host] for name in self.sets)]

    def sets_of(self, host: str, row: str, sets) -> list[str]:
        """Those of the sets that have the row at every one of these seeds (an oracle must know where the object is)."""
        seeds = self.seeds_of(host, row)
        return [name for name in sets if all(row in self.cells[name, seed][host] for seed in seeds)]

    def mean(self, host: str, row: str, sets) -> list[float]:
        """Base, new and H, in percent: H of each cell, averaged over sets and seeds."""
        pairs = [self.cells[name, seed][host][row] for name in sets for seed in self.seeds_of(host, row)]
        return [fmean(p[0] for p in pairs), fmean(p[1] for p in pairs), fmean(map(harmonic, pairs))]

    def gain(self, host: str, row: str, other: str, sets, of=harmonic) -> tuple[float, float]:
        """The row's H minus another's, paired by set and seed: mean, and half its interval over seeds."""
        cell = lambda name, seed, which: of(self.cells[name, seed][host][which])  # noqa: E731
        seeds = self.seeds_of(host, row)
        return interval([fmean(cell(name, s, row) - cell(name, s, other) for name in sets) for s in seeds])


def signed(gain: tuple[float, float]) -> str:
    return f"{gain[0]:+.1f} ± {gain[1]:.1f}"


def markdown(results: Results, heading: str, command: str, choices: dict, images: int) -> str:
    lines = [
        f"# {heading}",
        "",
        f"Embedded world: a test bed, no benchmark. Base-to-new, 16 shots, {images} test images a class, "
        f"{len(results.sets)} sets, seeds {', '.join(map(str, results.seeds))}. H is taken in each set and seed, then "
        "averaged; ± is half of Student's 95% interval over the seeds' paired differences (between seeds, not worlds).",
        f"Command: `{command}`.",
    ]
    for host in HOSTS:
        if not all(host in cell for cell in results.cells.values()):
            continue
        lines += [
            "",
            f"## {host}",
            "",
            "| row | base | new | H | H − host | H − host, first five | H − host, clutter and small |",
        ]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in results.rows(host):
            sets = results.sets_of(host, row, results.sets)
            base, new, h = results.mean(host, row, sets)
            gains = []
            for group in (sets, [s for s in sets if s in FIRST_FIVE], [s for s in sets if s in CROWDED]):
                gains.append(signed(results.gain(host, row, "host alone", group)) if group else "")
            seeds = results.seeds_of(host, row)
            mark = "" if sets == results.sets else f" ({', '.join(sets)})"
            mark += "" if seeds == results.seeds else f" (seeds {', '.join(map(str, seeds))})"
            lines.append(f"| {row}{mark} | {base:.1f} | {new:.1f} | {h:.1f} | {' | '.join(gains)} |")
    lines += ["", f"## Set by set ({MAIN}): base/new H, and H − host", ""]
    shown = ["zero-shot CLIP", "host alone", "Spotlighter", "KEEP 0.6", "Spotlighter, ZOOM 1", "Spotlighter, ZOOM 3", "KEEP 0.6, ZOOM 3"]  # fmt: skip
    shown = [row for row in shown if row in results.rows(MAIN)]
    lines += ["| set | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name in results.sets:
        texts = []
        for row in shown:
            base, new, h = results.mean(MAIN, row, [name])
            gain = "" if row in shown[:2] else f" ({signed(results.gain(MAIN, row, 'host alone', [name]))})"
            texts.append(f"{base:.1f}/{new:.1f} {h:.1f}{gain}")
        lines.append(f"| {name} | {' | '.join(texts)} |")
    lines += ["", "## What held-out shots chose for the second look", ""]
    lines += [
        "(map 0: attention of the block after the first possible drop, 1: of all blocks from there on; width; regions; share)",
        "",
    ]
    lines += [f"- {name}: {text}" for name, text in choices.items()]
    return "\n".join(lines) + "\n"


def summary(results: Results) -> dict:
    """The figures that other programs ask for, for each form of the method, on average and set by set."""
    found = {}
    forms = {"spotlighter": "Spotlighter", "spotlighter_fast": "KEEP 0.6", "spotlighter_zoom": "Spotlighter, ZOOM 3", "spotlighter_fast_zoom": "KEEP 0.6, ZOOM 3"}  # fmt: skip
    for form, row in forms.items():
        groups = {"mean": results.sets, **{name: [name] for name in results.sets}}
        found[form] = {}
        for group, sets in groups.items():
            gain, half = results.gain(MAIN, row, "host alone", sets)
            zero, zero_half = results.gain(MAIN, row, "zero-shot CLIP", sets)
            new, new_half = results.gain(MAIN, row, "zero-shot CLIP", sets, of=lambda pair: pair[1])
            found[form][group] = {
                "base": results.mean(MAIN, row, sets)[0],
                "new": results.mean(MAIN, row, sets)[1],
                "h": results.mean(MAIN, row, sets)[2],
                "h_gain_over_coop": gain,
                "h_gain_over_coop_interval": [gain - half, gain + half],
                "h_gain_over_zeroshot": zero,
                "h_gain_over_zeroshot_interval": [zero - zero_half, zero + zero_half],
                "new_gain_over_zeroshot": new,
                "new_gain_over_zeroshot_interval": [new - new_half, new + new_half],
            }
    own, none = "Spotlighter, ZOOM 3", "Spotlighter"
    crowded = [name for name in results.sets if name in CROWDED]
    if crowded:
        found["selection_on_clutter_and_small"] = selection = {}
        for how in ("random regions", "centre region", "oracle region"):
            if f"ZOOM, {how}" in results.rows(MAIN):
                selection[f"h_gain_over_{how.replace(' ', '_')}"] = results.gain(MAIN, own, f"ZOOM, {how}", crowded)
        selection["h_gain_over_no_zoom"] = won = results.gain(MAIN, own, none, crowded)
        if "ZOOM, oracle region" in results.rows(MAIN):
            selection["share_of_the_oracles_gain"] = (
                won[0] / results.gain(MAIN, "ZOOM, oracle region", none, crowded)[0]
            )
    return found


def read_cells(folder: Path, sets, seeds) -> list[dict]:
    paths = [folder / f"{name}_{seed}.json" for name in sets for seed in seeds]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def shown_choices(cells: list[dict]) -> dict:
    found: dict = {}
    for cell in cells:
        for name, zoom in cell["choices"].items():
            found.setdefault(name, {}).setdefault(cell["set"], []).append(
                "none" if zoom is None else "/".join(map(str, zoom))
            )
    return {
        name: "; ".join(f"{s}: {', '.join(sorted(set(c), key=c.index))}" for s, c in by.items())
        for name, by in found.items()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data", help="folder of the embedded sets (python -m datasets.embedded)")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help=", ".join(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument(
        "--rows", choices=("all", "core"), default="all", help="core: without the controls of single parts"
    )
    parser.add_argument("--images", type=int, default=50, help="test images a class")
    parser.add_argument("--name", default="ablation", help="of the results: <out>/<name>.md and .json")
    parser.add_argument("--out", default=str(REPOSITORY / "benchmarks" / "results"), help="folder of the tables")
    parser.add_argument("--work", default=str(REPOSITORY / "output" / "ablation"), help="folder of the finished cells")
    parser.add_argument(
        "--workers", type=int, default=max(1, os.cpu_count() or 1), help="processes, of one thread each"
    )
    args = parser.parse_args(argv)
    work = Path(args.work) / args.name
    work.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        if not (Path(args.root) / f"embedded_{name}").is_dir():
            parser.error(
                f"{args.root} has no embedded_{name}: write it with python -m datasets.embedded --root {args.root}."
            )
    cells = [(name, seed) for seed in args.seeds for name in args.sets]
    todo = [cell for cell in cells if not (work / f"{cell[0]}_{cell[1]}.json").is_file()]
    print(f"{len(cells)} cells, {len(cells) - len(todo)} done already in {work}", flush=True)
    with ProcessPoolExecutor(args.workers) as pool:
        jobs = [
            pool.submit(run_cell, args.root, n, s, args.rows, args.images, str(work / f"{n}_{s}.json")) for n, s in todo
        ]
        for number, job in enumerate(as_completed(jobs), start=1):
            try:
                print(f"[{number}/{len(jobs)}] {job.result()}", flush=True)
            except InputError as error:
                pool.shutdown(cancel_futures=True)
                print(f"error: {error}", file=sys.stderr)
                return 2
    done = read_cells(work, args.sets, args.seeds)
    results, command = (
        Results(done),
        f"python -m benchmarks.ablation {' '.join(sys.argv[1:] if argv is None else argv)}".strip(),
    )
    world = json.loads((Path(args.root) / f"embedded_{args.sets[0]}" / "world.json").read_text())["world"]
    text = markdown(
        results,
        f"Which parts of Spotlighter earn their place (drawing {world} of the world)",
        command,
        shown_choices(done),
        args.images,
    )
    out = Path(args.out)
    replace_file(str(out / f"{args.name}.md"), lambda file: file.write(text.encode()))
    content = summary(results)
    write_json({
        "world": world, "sets": results.sets, "seeds": results.seeds, "command": command,
        **content["spotlighter"]["mean"], "forms": content,
        "cells": done,
    }, str(out / f"{args.name}.json"))  # fmt: skip
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
