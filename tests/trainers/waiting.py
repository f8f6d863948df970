"""Where steps of training, and a test, wait for a GPU: functions for the process with the pretended one."""

from tests.trainers.by_hand import built


def waits_of_training(gpu, line: list[str]) -> dict:
    """Of the second epoch, as the first one computes what never changes: place -> how often."""
    trainer = built(line)
    trainer.before_train()
    trainer.run_epoch()
    trainer.epoch = 1
    with gpu.watched() as seen:
        trainer.run_epoch()
    return {"steps": trainer.num_batches, "waits": by_place(seen)}


def waits_of_a_test(gpu, line: list[str]) -> dict:
    trainer = built(line)
    trainer.test()
    with gpu.watched() as seen:
        trainer.test()
    return {"steps": len(trainer.test_loader), "waits": by_place(seen)}


def waits_of_an_epochs_end(gpu, line: list[str]) -> dict:
    """What is learned is looked at, and a copy of it is kept for the case that the next epoch breaks off."""
    trainer = built(line)
    trainer.before_train()
    trainer.run_epoch()
    trainer.max_epoch = 9  # which is not the last one
    with gpu.watched() as seen:
        trainer.after_epoch()
    kept = [value for checkpoint in trainer.unsaved.values() for value in checkpoint["state_dict"].values()]
    assert kept and all(value.isfinite().all() for value in kept)
    return {"steps": 1, "waits": by_place(seen)}


def by_place(seen) -> dict[str, int]:
    return {f"{kind} in {place}": count for (kind, place), count in seen.waits.items()}
