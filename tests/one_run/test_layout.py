"""Where runs stand (one_run/layout.py), and what is asked of one (one_run/request.py)."""

from pathlib import Path

import pytest

import train
from one_run.config import config_of
from one_run.layout import GROUPS, PHASES, PROTOCOLS, Place, place_of
from one_run.request import Request
from tests.helpers import REPOSITORY


def test_a_place_and_its_path():
    place = Place("dtd", 16, "CoOp", "vit_b16", 1)
    assert place.path == Path("dtd/shots_16/CoOp/vit_b16/seed1")
    assert place_of(Path("/output/base2new/test_new") / place.path) == place


@pytest.mark.parametrize(
    "path", ["dtd/shots_16/CoOp/vit_b16", "dtd/16/CoOp/vit_b16/seed1", "dtd/shots_16/CoOp/vit_b16/first", "", "/"]
)
def test_another_path_is_no_place(path):
    assert place_of(Path(path)) is None


def test_protocols():
    assert {PHASES[last].folder.split("/")[0] for last in PROTOCOLS.values()} == set(PROTOCOLS)
    assert all(phase.trained in {"", *PHASES} for phase in PHASES.values())
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names)) == 11 + 4 + 7 + 4
    assert all((REPOSITORY / "configs" / "datasets" / f"{name}.yaml").is_file() for name in names)


@pytest.mark.parametrize("model_dir", [None, Path("/trained")])
def test_a_request_is_the_same_as_data_and_as_a_command(model_dir):
    configs = REPOSITORY / "configs"
    request = Request(
        method="CoOp",
        files=(configs / "datasets/dtd.yaml", configs / "trainers/CoOp/vit_b16.yaml"),
        root=Path("/data"),
        output_dir=Path("/output"),
        seed=3,
        options=("OPTIM.LR", "0.1", "DATASET.NUM_SHOTS", "4"),
        model_dir=model_dir,
    )
    script, *line = request.command
    args = train.parse_arguments(line)
    assert Path(script) == REPOSITORY / "train.py"
    assert train.build_config(args) == config_of(request)
    assert args.eval_only is (model_dir is not None) and args.model_dir == str(model_dir or "")
