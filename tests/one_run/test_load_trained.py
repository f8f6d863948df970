"""A trainer whose `load_model` takes the config too, as published files have it, is tested and built again as any other."""

import train
from one_run.rebuild import rebuild
from tests.helpers import arguments, results
from trainers.coop import CoOp


def test_the_config_is_handed_over(data_root, tmp_path, monkeypatch):
    ours, seen = CoOp.load_model, []

    def theirs(self, directory, cfg, epoch=None):
        seen.append((cfg.TRAINER.NAME, epoch))
        ours(self, directory, epoch)

    monkeypatch.setattr(CoOp, "load_model", theirs)
    assert train.main(arguments(data_root, tmp_path / "run", "CoOp", options=["OPTIM.MAX_EPOCH", 1])) == 0
    test = arguments(data_root, tmp_path / "test", "CoOp", eval_only=True, model_dir=tmp_path / "run")
    assert train.main(test) == 0
    rebuild(tmp_path / "run")
    assert seen == [("CoOp", 1), ("CoOp", 1)]
    assert results(tmp_path / "test")["accuracy"] == results(tmp_path / "run")["accuracy"]
