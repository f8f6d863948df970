"""Keys that a trainer file written for Dassl reads and nobody declares, wherever in the config (../../one_run/config.py)."""

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY, TrainerX
from tests.helpers import REPOSITORY, arguments


class Undeclared(TrainerX):
    """`asks` is called once while it is built, and once in its first step."""

    asks_built = asks_in_a_step = asks_in_its_test = staticmethod(lambda cfg: None)

    def build_model(self):
        self.asks_built(self.cfg)
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, self.num_classes))
        self.register_model("linear", self.model, torch.optim.SGD(self.model.parameters(), lr=0.01))

    def forward_backward(self, batch):
        self.asks_in_a_step(self.cfg)
        loss = torch.nn.functional.cross_entropy(self.model(batch["img"]), batch["label"])
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}

    def model_inference(self, image):
        self.asks_in_its_test(self.cfg)
        return self.model(image)


@pytest.fixture
def line(data_root, tmp_path):
    TRAINER_REGISTRY.register(Undeclared)
    yield arguments(data_root, tmp_path, "Undeclared", config_file=REPOSITORY / "configs/trainers/_base/embedded.yaml")
    del TRAINER_REGISTRY._obj_map["Undeclared"]


@pytest.mark.parametrize("when", ["built", "in_a_step", "in_its_test"])
@pytest.mark.parametrize(
    ("asks", "key"),
    [
        (lambda cfg: cfg.lambda_value, "lambda_value"),
        (lambda cfg: cfg.LOSS.NAME, "LOSS"),
        (lambda cfg: cfg.DATASET.clone().PROMPT, "DATASET.PROMPT"),
        (lambda cfg: cfg.TRAINER.UNDECLARED.W, "TRAINER.UNDECLARED"),
    ],
)
def test_the_key_and_its_file_are_named(line, monkeypatch, capsys, when, asks, key):
    monkeypatch.setattr(Undeclared, f"asks_{when}", staticmethod(asks))
    assert train.main(line) == 2
    said = capsys.readouterr().err
    assert f"The trainer Undeclared asks for the config key {key}. " in said
    assert "configs/trainers/Undeclared/defaults.yaml" in said


def test_other_attributes_are_not_keys(line, monkeypatch):
    monkeypatch.setattr(Undeclared, "asks_in_a_step", staticmethod(lambda cfg: cfg.TRAINER.NAME.LOSS))
    with pytest.raises(AttributeError, match="'str' object"):
        train.main(line)
