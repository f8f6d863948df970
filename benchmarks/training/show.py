"""Lines for people, and whether a goal is reached."""


def of_goal(measured: float, goal: float | None) -> str:
    if goal is None:
        return ""
    return f"  goal {goal:g}: {'reached' if measured >= goal else 'missed'}"


def step(record: dict) -> str:
    seconds = "  ".join(f"{name} {value:.2f}" for name, value in record["cpu_seconds"].items())
    ratios = "".join(
        f"\n    {name} / ours {ratio['times']:.2f} ({ratio['quartiles'][0]:.2f}-{ratio['quartiles'][1]:.2f})"
        + (of_goal(ratio["times"], record["goal"]) if name == "field" else "")
        for name, ratio in record["ratios"].items()
    )
    room = f"\n    {record['no_room']}" if "no_room" in record else ""
    return f"{record['cell']:<20} CPU s: {seconds}  ({record['rounds']} rounds){ratios}{room}"


def run(record: dict) -> str:
    phases = list(dict.fromkeys(name for way in record["ways"].values() for name in way["phases"]))
    lines = [f"{record['method']} on {record['dataset']}, CPU s" + "".join(f"{way:>10}" for way in record["ways"])]
    for name in phases:
        lines.append(
            f"    {name:<24}" + "".join(f"{way['phases'].get(name, 0.0):10.2f}" for way in record["ways"].values())
        )
    lines.append(f"    {'all':<24}" + "".join(f"{way['cpu_seconds']:10.2f}" for way in record["ways"].values()))
    return "\n".join([*lines, *(f"    usual / {way} {ratio['times']:.2f}" for way, ratio in record["ratios"].items())])


def table(record: dict) -> str:
    lines = [
        f"{len(record['methods'])} methods, {len(record['sets'])} sets, seeds {record['seeds']}: {record['runs']} runs, CPU s (wall s)"
    ]
    for way in ("usual", *record["goals"]):
        own = [each[way] for each in record["rounds"]]
        lines.append(
            f"    {way:<8}" + "  ".join(f"{each['cpu_seconds']:,.0f} ({each['wall_seconds']:,.0f})" for each in own)
        )
    lines.append(
        f"    usual: from {', '.join(record['sample']['sets'])} at seed {record['sample']['seeds'][0]}, multiplied"
    )
    for way, ratio in record["ratios"].items():
        lines.append(f"    usual / {way} {ratio['times']:.2f}{of_goal(ratio['times'], record['goals'][way])}")
    return "\n".join(lines)


def growth(record: dict) -> str:
    seconds = "  ".join(
        f"{size}: {value:.2f}" for size, value in zip(record["sizes"], record["cpu_seconds"], strict=True)
    )
    return (
        f"{record['what']} by {record['grows']}, CPU s: {seconds}; exponent {record['exponent']:.2f}, "
        f"expected {record['expected']:g}"
    )
