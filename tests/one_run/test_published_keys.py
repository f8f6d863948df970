"""Keys of others' trainer files (../../configs/published): they fit beside ours, and a user's own come first."""

import pytest

from dassl.config import get_cfg_default, merge_tree, read_tree
from dassl.ranges import RANGES, check_ranges
from one_run import config
from one_run.layout import CONFIGS

FILES = sorted((CONFIGS / "published").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_are_read(path):
    cfg, tree = get_cfg_default(), read_tree(str(path))
    merge_tree(cfg, tree, new_allowed=True)
    check_ranges(cfg, RANGES)
    assert tree["TRAINER"] and path.read_text().startswith("# The keys of a trainer file of ")


def test_a_users_own_come_first(tmp_path, monkeypatch):
    assert config.defaults_of("LoCoOp") == CONFIGS / "published/LoCoOp.yaml"
    assert config.defaults_of("CoOp") == CONFIGS / "trainers/CoOp/defaults.yaml"
    assert not config.defaults_of("Unheard").is_file()
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    own = tmp_path / "trainers/LoCoOp/defaults.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert config.defaults_of("LoCoOp") == own
