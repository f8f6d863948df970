"""All records as Markdown, beside the goals."""

from collections.abc import Callable, Iterator

from .agreement import FURTHEST
from .cells import is_failure
from .speed import FAST

TIMES_CLIP, MORE_IMAGES = 1.4, 800  # of the form that drops tokens: times zero-shot CLIP's images/s, and so many more
TIMES_THEIRS = 3.0  # the field's step
GOALS_OF_STEPS = ("CoOp", "MaPLe", "PromptSRC")
REASONS = ("error", "failed", "no_room", "skipped")


def goals(parts: dict[str, list[dict]]) -> list[dict]:
    """What is wanted, what was measured (None: nothing), and whether it is reached; of evaluations, the batch counts at
    which zero-shot CLIP is fastest.
    """
    steps = {record["cell"]: record.get("times_theirs") for record in parts.get("speed", [])}
    found = [
        (f"a step of {name}: at least {TIMES_THEIRS:g} x the field's", steps.get(f"a step of {name}"), TIMES_THEIRS)
        for name in GOALS_OF_STEPS
    ]
    evaluations = [record["rows"] for record in parts.get("speed", []) if "rows" in record]
    best = max(evaluations, key=lambda rows: rows[0]["images_per_second"], default=[])
    fast = next((row for row in best if row["name"] == FAST), {})
    found += [
        (f"vit_b16_fast: at least {TIMES_CLIP:g} x zero-shot CLIP", fast.get("ratio_to_clip"), TIMES_CLIP),
        (f"vit_b16_fast: at least {MORE_IMAGES} images/s more", fast.get("extra_images_per_second"), MORE_IMAGES),
    ]
    return [
        {"goal": goal, "measured": value, "reached": None if value is None else value >= least}
        for goal, value, least in found
    ]


def markdown(result: dict) -> str:
    """The whole page."""
    facts = {name: result[name] for name in ("device", "driver", "cuda", "torch", "python", "seconds", "command")}
    lines = ["# What was seen on this device", ""]
    lines += [f"- {name}: {'unknown' if value is None else value}" for name, value in facts.items()]
    if is_try(result):
        lines += ["", "**A try of the command itself**, not on a GPU or of a small size: its figures are no results."]
    else:
        lines += ["", "## Goals", "", *table(("goal", "measured", "reached"), map(goal_row, result["goals"]))]
    for part, records in result["parts"].items():
        lines += [
            "",
            f"## {part.capitalize()}",
            "",
            *SECTIONS[part]([record for record in records if measured(record)]),
        ]
        reasons = [f"- {record['cell']}: {reason_of(record)}" for record in records if reason_of(record)]
        lines += ["", *reasons] if reasons else []
    return "\n".join(lines) + "\n"


def is_try(result: dict) -> bool:
    """Whether the command was only to be seen at work: the goals are those of a GPU, at full size."""
    return result["quick"] or not result["on_gpu"]


def measured(record: dict) -> bool:
    return not any(reason in record for reason in REASONS if reason != "failed")


def reason_of(record: dict) -> str:
    """Why there are no figures, or what is wrong with them; "" where all is well."""
    said = {"error": "**error**: ", "failed": "**failed**: ", "no_room": "no room: ", "skipped": "left out: "}
    return next((said[reason] + record[reason] for reason in REASONS if reason in record), "")


def table(head: tuple, rows) -> list[str]:
    rows = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, row))} |" for row in rows]


def number(value: float | None, form: str = ",.1f") -> str:
    return "" if value is None else format(value, form)


def goal_row(goal: dict) -> tuple:
    return goal["goal"], number(goal["measured"], ",.2f"), {True: "yes", False: "**no**", None: ""}[goal["reached"]]


def agreement(records: list[dict]) -> Iterator[str]:
    yield "How far logits, losses and the last gradient are from the CPU's fp32, relative to it."
    yield ""
    allowed = {name: "/".join(f"{furthest:g}" for furthest in each.values()) for name, each in FURTHEST.items()}
    names = [name for name in FURTHEST if any(name in record["distances"] for record in records)]
    rows = [
        [record["cell"], *(figures(record["distances"].get(name, {})) for name in names), fitted(record, names)]
        for record in records
    ]
    heads = [f"{name} (at most {allowed[name]})" for name in names]
    yield from table(("method", *heads, "head fitted there: logits, not judged"), rows)


def figures(distances: dict[str, float]) -> str:
    return " / ".join(f"{distances[name]:.0e}" for name in ("logits", "loss", "gradient") if name in distances)


def fitted(record: dict, names: list[str]) -> str:
    found = {name: record["distances"].get(name, {}).get("logits_fitted_there") for name in names}
    return ", ".join(f"{name} {value:.0e}" for name, value in found.items() if value is not None)


def speed(records: list[dict]) -> Iterator[str]:
    yield from steps([record for record in records if "times_theirs" in record])
    for record in records:
        if "rows" in record:
            yield ""
            facts = f"{record['classes']} classes, {record['precision']}"
            yield f"**Evaluation** of {record['backbone']}, batch {record['batch']}, {facts}:"
            yield ""
            yield from table(
                (
                    "row",
                    "images/s",
                    "to zero-shot CLIP",
                    "quartiles",
                    "by FLOPs alone",
                    "of attainable",
                    "host's share",
                ),
                map(evaluation_row, record["rows"]),
            )


def steps(records: list[dict]) -> Iterator[str]:
    yield from table(
        ("step", "precision", "classes", "batch", "ours, ms", "the field's, ms", "times", "quartiles", "least, ms", "host's share"),
        [
            (
                record["cell"].removeprefix("a step of "),
                record["precision"],
                record["classes"],
                record["batch"],
                number(record["ms"]["ours"], ",.2f"),
                number(record["ms"]["theirs"], ",.2f"),
                f"**{record['times_theirs']:.2f}**",
                between(record["quartiles"]),
                number(record["ms_at_least"].get("ours"), ",.2f"),
                number(record["issue_share"]["ours"], ".0%"),
            )
            for record in records
        ],
    )  # fmt: skip


def between(quartiles: list[float]) -> str:
    return "-".join(f"{value:.2f}" for value in quartiles)


def evaluation_row(row: dict) -> tuple:
    return (
        row["name"],
        number(row["images_per_second"]),
        f"{row['ratio_to_clip']:.2f}",
        between(row["ratio_iqr"]),
        f"{row['ratio_by_flops']:.2f}",
        f"{row['share_of_attainable']:.0%}",
        f"{row['issue_share']:.0%}",
    )


def memory(records: list[dict]) -> Iterator[str]:
    yield from table(
        ("step of CoOp", "precision", "batch", "peak, MiB", "of which held between steps, MiB"),
        [
            (
                record["cell"],
                record["precision"],
                record["batch"],
                number(record.get("peak_mib")),
                number(record.get("held_mib")),
            )
            for record in records
        ],
    )


def equality(records: list[dict]) -> Iterator[str]:
    yield from table(
        ("twice from one seed", "tensors compared", "equal to the bit"),
        [(record["cell"], record["tensors"], "**no**" if is_failure(record) else "yes") for record in records],
    )


SECTIONS: dict[str, Callable[[list[dict]], Iterator[str]]] = {
    "agreement": agreement,
    "speed": speed,
    "memory": memory,
    "equality": equality,
    "compiled": steps,
}


def line(record: dict) -> str:
    """What is printed of a cell when it is done."""
    if reason := reason_of(record):
        return reason.replace("**", "")
    if "distances" in record:
        return ", ".join(f"{name} {figures(found)}" for name, found in record["distances"].items())
    if "times_theirs" in record:
        ms = record["ms"]
        return f"{ms['ours']:.2f} ms, the field's {ms['theirs']:.2f} ms: {record['times_theirs']:.2f} times"
    if "rows" in record:
        rows = (f"{row['name']} {row['images_per_second']:,.0f}" for row in record["rows"])
        return f"images/s: {', '.join(rows)}"
    if "who" in record:
        return f"{record['peak_mib']:,.0f} MiB at the peak" if "peak_mib" in record else "done; a CPU tells no peak"
    return f"{record['tensors']} tensors, equal to the bit"
