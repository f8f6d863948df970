"""What follows a run on one's own pictures: how good it is, a page to look at, and the line that uses it."""

import shlex
import subprocess
import sys
from pathlib import Path

from one_run.folder import whole_record
from one_run.layout import ROOT

from .protocols import Run

LOOKED_AT = 4  # test pictures on the page, with what Spotlighter looks at in them


def is_shown(script: str, dataset: str) -> bool:
    return script == "few_shot" and dataset == "folder"


def show(run: Run, output: Path) -> None:
    """Print it, of a run that has finished; a page that cannot be written is no fault of the run's."""
    record = whole_record(run.folder)
    if record is None or record["state"] != "finished" or record.get("accuracy") is None:
        return
    pictures = sum(each["total"] for each in (record.get("classwise") or {}).values())
    print(f"\nAccuracy: {record['accuracy']:.1f}% of {pictures:,} test pictures", flush=True)
    page = output / "report.html"
    line = [
        sys.executable,
        str(ROOT / "parse_test_res.py"),
        str(output),
        "--report",
        str(page),
        "--pictures",
        str(LOOKED_AT),
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode in (0, 1) and page.is_file():  # 1: another cell lacks a seed, which the page says
        print(f"Page: {page}")
    else:
        print(f"There is no page: {(done.stderr.strip().splitlines() or ['it broke off'])[-1]}")
    print(
        f"Predict: python {shlex.quote(str(ROOT / 'predict.py'))} {shlex.quote(str(run.folder))} PICTURES", flush=True
    )
