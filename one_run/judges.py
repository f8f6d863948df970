"""Nothing is chosen on test images, unless a run is asked to do as its publication did (SETTINGS.MODE paper)."""

from dassl.data.judges import SPLIT, by_validation, no_validation_images, validates_on_test_images
from dassl.errors import InputError


def check_judges(trainer, trains: bool) -> bool:
    """Whether a run chooses its model on test images, as it may in the mode paper.

    Otherwise such a run is refused, as is one without the validation images that it needs. trains: it is no test of
    another run.
    """
    cfg, dataset = trainer.cfg, trainer.dm.dataset
    searches = getattr(trainer, "searches", "") if trains else ""  # the setting by which a method chooses its own keys
    setting = searches or by_validation(cfg, trains=trains and bool(trainer.get_model_names()))
    if not setting:
        return False
    if not dataset.val:
        raise no_validation_images(cfg.DATASET.NAME, setting)
    if not validates_on_test_images(dataset):
        return False
    if "SETTINGS" not in cfg or cfg.SETTINGS.MODE != "paper":
        does = "would choose the model on these" if setting != SPLIT else "would pass these off as others"
        key = setting.partition(" ")[0]
        raise InputError(
            f"The validation images of {cfg.DATASET.NAME} are among its test images, and {setting} {does}: leave {key} as it "
            "is by default, or do as some publications did, with SETTINGS.MODE paper, which tables name."
        )
    return setting != SPLIT
