"""The rows: Spotlighter with parts left out, exchanged or added, in one set at one seed."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.embedded import CROWDED, folder_of, trainer_on
from trainers.spotlighter.bank import Shots, remember
from trainers.spotlighter.centred import Centred
from trainers.spotlighter.fit import choose_zoom, fit_scalars
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.zoom import Zoom

from .encoded import EncodedImages, Oracle, shots_of, train_host

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
WITHOUT_HOST = "zero-shot CLIP + head"  # what runs of configs/trainers/Spotlighter/embedded_zeroshot.yaml are


def build_spotlighter(
    root: str,
    set_name: str,
    seed: int,
    host: str,
    half: str,
    keep: float = 1.0,
    score: str = "probe",
    grid: float = 0.0,
):
    """The trainer of a run on the "base" or "new" half of the classes."""
    options = [
        "DATASET.NUM_SHOTS", 16, "DATASET.SUBSAMPLE_CLASSES", half,
        "TRAINER.SPOTLIGHTER.ZOOM", 3, "TRAINER.SPOTLIGHTER.KEEP", keep, "TRAINER.SPOTLIGHTER.GRID", grid,
        "TRAINER.SPOTLIGHTER.SCORE", "random" if score == "oracle" else score, *HOSTS[host],
    ]  # fmt: skip
    trainer = trainer_on(root, set_name, seed, "Spotlighter", options)
    if score == "oracle":
        trainer.head.drop.by = Oracle()
    return trainer


def chance(tokens: Centred, belief, classes) -> torch.Tensor:
    """Random numbers (B, N) as the activation of tokens."""
    return torch.rand(tokens.shape[:2], generator=torch.Generator().manual_seed(len(tokens.tokens)))


def nothing(tokens: Centred, belief, classes) -> torch.Tensor:
    """(B, N) zeros."""
    return torch.zeros(tokens.shape[:2])


@dataclass(frozen=True)
class Texts:
    """Text features of "base" and "new" classes."""

    t: dict[str, torch.Tensor]  # (C, d), from the host's prompts
    z: dict[str, torch.Tensor]  # (C, d), zero-shot
    names: dict[str, list[str]]  # of the classes

    def without_host(self) -> "Texts":
        """The same with zero-shot prompts in place of the host's."""
        return replace(self, t=self.z)


@torch.no_grad()
def texts_of(base, new) -> Texts:
    """Of a trainer on each half of the classes; the prompts are those that `base` has learned."""
    new.model.prompt_learner.load_state_dict(base.model.prompt_learner.state_dict())
    halves = {"base": base, "new": new}
    return Texts(
        t={half: trainer.model.text_features() for half, trainer in halves.items()},
        z={half: trainer.spotlit.zero_shot for half, trainer in halves.items()},
        names={half: trainer.dm.dataset.classnames for half, trainer in halves.items()},
    )


def accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return 100 * (logits.argmax(dim=1) == y).double().mean().item()


def accuracies_of(tables: dict, texts: dict) -> list[float]:
    """A prompt's own accuracies, base and new."""
    return [accuracy(tables[half].f @ texts[half].t(), tables[half].y) for half in ("base", "new")]


def score(head, shots: Shots, texts: Texts, tables: dict, trainer=None, how: str = "own") -> list[float]:
    """Accuracies, base and new, of a head that remembers the shots; with its second look if it zooms."""
    remember(head, shots, texts.t["base"], texts.z["base"], texts.names["base"])
    return score_as_it_is(head, texts, tables, trainer, how)


@torch.no_grad()
def score_as_it_is(head, texts: Texts, tables: dict, trainer=None, how: str = "own") -> list[float]:
    """The same of a head whose bank is filled."""
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


PAPER = "the paper's form (HEAD paper)"
UNTRAINED = "tau_b never trained"  # no step of the fit leaves classes out of the bank
HEAD_OPTIONS = ("kept", "prototypes", "levels", "full", "activations")


def make_head(trainer, **changes) -> SpotlighterHead:
    """A fresh head with initial scalars, some of them changed; lists and numbers as in `Scalars`."""
    options = {name: changes.pop(name) for name in HEAD_OPTIONS if name in changes}
    head = SpotlighterHead(trainer.head.logit_scale, **options)
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
    "random tokens": {"activations": (chance, nothing)},
    "R = 1": {"kept": 1},
    "R = 3": {"kept": 3},
    "R = 10": {"kept": 10},
    "K = 1": {"prototypes": 1},
    "K = 10": {"prototypes": 10},
}


def fitted(
    trainer,
    shots: Shots,
    texts: Texts,
    seed: int,
    levels: float = 0.0,
    full: int = 0,
    unseen: float | None = None,
) -> SpotlighterHead:
    """A head whose scalars are fitted as in a training run; `unseen` in place of the config's FIT_UNSEEN."""
    head, own = make_head(trainer, full=full), trainer.own
    unseen = own.FIT_UNSEEN if unseen is None else unseen
    fit_scalars(head, shots, texts.t["base"], texts.z["base"], seed, pull=own.LOSS.PULL, levels=levels, unseen=unseen)
    return head


def papers_form(root: str, set_name: str, seed: int, tables: dict) -> list[float]:
    """Accuracies of `HEAD: paper`, trained in step with a host of its own, by its config."""
    halves = []
    for half in ("base", "new"):
        options = ["DATASET.NUM_SHOTS", 16, "DATASET.SUBSAMPLE_CLASSES", half, *HOSTS[MAIN]]
        halves.append(trainer_on(root, set_name, seed, "Spotlighter", options, config="embedded_paper"))
    base, new = halves
    train_host(base, tables["train"])
    base.fit_head()
    return score_as_it_is(base.head, texts_of(base, new), tables)


def zooms(trainer, head, shots: Shots, texts: Texts, tables: dict, seed: int, most: int, how: str = "own"):
    """Accuracies with the second look that held-out shots choose, and that choice."""
    head.zoom = choose_zoom(head, shots, texts.t["base"], texts.z["base"], most, seed)
    result = score(head, shots, texts, tables, trainer, how)
    chosen, head.zoom = head.zoom, None
    return result, None if chosen is None else list(chosen)


def tables_of(base, new, folder: Path, images: int) -> dict[str, EncodedImages]:
    """The shots, and the first `images` test images of each base and new class."""

    def first(items):
        rank: dict = {}
        return [
            item for item in items if rank.setdefault(item.label, []).append(item) or len(rank[item.label]) <= images
        ]

    parts = {"train": base.dm.dataset.train_x, "base": first(base.dm.dataset.test), "new": first(new.dm.dataset.test)}
    return {name: EncodedImages(base, items, folder) for name, items in parts.items()}


def whole_encoder(root: str, set_name: str, seed: int, rows: str, images: int) -> dict:
    """All rows with every token kept: {host: {row: [base, new]}}, and what was chosen."""
    folder, result, choices = folder_of(root, set_name).resolve(), {}, {}
    tables, shots = {}, {}
    for host in HOSTS if rows == "all" else [MAIN]:
        base, new = (build_spotlighter(root, set_name, seed, host, half) for half in ("base", "new"))
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
        texts = texts_of(base, new)
        found = result.setdefault(host, {})
        found["zero-shot CLIP"], found["host alone"] = accuracies_of(tables, texts.z), accuracies_of(tables, texts.t)
        for name, changes in HEADS.items() if rows == "all" else ():
            found[name] = score(make_head(base, **changes), own, texts, tables)
        head = fitted(base, own, texts, seed)
        found["Spotlighter"] = score(head, own, texts, tables)
        if rows == "all" and host == MAIN:
            found["HEAD full"] = score(fitted(base, own, texts, seed, full=own.f.shape[1]), own, texts, tables)
            found[PAPER] = papers_form(root, set_name, seed, tables)
            found[UNTRAINED] = score(fitted(base, own, texts, seed, unseen=0.0), own, texts, tables)
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
        zoom = choices[f"{host}, ZOOM 3"]  # its regions serve this too
        head, without = make_head(base, **HOST_ALONE), texts.without_host()
        head.zoom = zoom and Zoom(*zoom)
        found["host alone, ZOOM 3"] = score(head, own, texts, tables, base)
        head = fitted(base, own, without, seed)
        found[WITHOUT_HOST] = score(head, own, without, tables)
        name = f"{WITHOUT_HOST}, ZOOM 3"
        found[name], choices[name] = zooms(base, head, own, without, tables, seed, 3)
    return {"accuracies": result, "choices": choices}


def dropping(root: str, set_name: str, seed: int, names, images: int) -> dict:
    """Rows with tokens dropped inside the encoder; the host is trained on what is left: {row: [base, new]}."""
    folder, result, tables = folder_of(root, set_name).resolve(), {}, {}
    for name in names:
        keep, by, grid = ENCODERS[name]
        if by == "oracle" and tables and tables["train"].boxes is None:
            continue
        base = build_spotlighter(root, set_name, seed, MAIN, "base", keep, by, grid)
        new = build_spotlighter(root, set_name, seed, MAIN, "new", keep, by, grid)
        if not tables:
            tables = tables_of(base, new, folder, images)
        base.survey_shots()
        for table in tables.values():
            table.features = {}
            table.encode(base)
        train_host(base, tables["train"])
        texts = texts_of(base, new)
        result[f"{name}: host alone"] = accuracies_of(tables, texts.t)
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
