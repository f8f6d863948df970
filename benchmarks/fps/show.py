"""Records, as they are printed."""

import torch

from .predictors import CONTROL, LEAN

TRUSTED = 0.03  # how far from 1 the control's ratio may be


def show_rows(record: dict, device: torch.device) -> None:
    title = f"{record['backbone']}, batch {record['batch']}, {record['classes']} classes, {record['precision']}"
    print(f"\n{title}; a square matrix product attains {record['attainable_gflops_per_second']:,.0f} GFLOP/s")
    gpu = device.type == "cuda"
    host = f"{'issued' if gpu else 'by CPU time':>13}"
    print(
        f"{'':<30}{'images/s':>10}{'to CLIP':>9}{'quartiles':>15}{'by FLOPs':>10}{'GFLOP/image':>13}{'attained':>10}"
        f"{host}"
    )
    for row in record["rows"]:
        low, high = row["ratio_iqr"]
        host = f"{row['issue_share']:>13.0%}" if gpu else f"{row['ratio_by_cpu_time']:>13.3f}"
        print(
            f"{row['name']:<30}{row['images_per_second']:>10,.1f}{row['ratio_to_clip']:>9.3f}"
            f"{f'{low:.3f}-{high:.3f}':>15}{row['ratio_by_flops']:>10.3f}{row['gflops_per_image']:>13.2f}"
            f"{row['share_of_attainable']:>10.0%}{host}"
        )
    control = control_of(record["rows"])
    if abs(control - 1) > TRUSTED:
        print(f"{CONTROL} does the work of {LEAN} and came out at {control:.3f}: the machine was busy, measure again")
    if gpu:
        print("issued: share of the time until the host had issued all work; near 100% the host is the limit")


def control_of(rows: list[dict]) -> float:
    """What came out for two rows that do the same work: 1, on a quiet machine."""
    ratios = {row["name"]: row["ratio_to_clip"] for row in rows}
    return ratios[CONTROL] / ratios[LEAN]


def show_profile(profiles: dict) -> None:
    names = list(profiles)
    for table in ("parts", "kinds"):
        labels = list(dict.fromkeys(label for name in names for label in profiles[name][table]))
        print(f"\n{'ms per image (share), by ' + table:<34}" + "".join(f"{name:>26}" for name in names))
        for label in labels:
            cells = (profiles[name][table].get(label, {"ms_per_image": 0.0, "share": 0.0}) for name in names)
            print(f"{label:<34}" + "".join(f"{cell['ms_per_image']:>18.3f} ({cell['share']:>4.0%})" for cell in cells))


def show_figures(result: dict, file: str) -> None:
    """The figures to quote, in a sentence, and where all of them are."""
    source = result["figures_from"]
    speedup = next(value for name, value in result.items() if name.startswith("speedup_over_clip"))
    print(
        f"\n{source['row']} on {source['backbone']}, batch {source['batch']}: {speedup:.3f} times zero-shot CLIP, "
        f"{result['extra_images_per_second']:+,.1f} images/s. Results: {file}"
    )
