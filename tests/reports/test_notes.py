"""What is said under a table."""

from reports.formats import as_text
from tests.reports.runs import across, base2new, fewshot, means, said, table_of, write


def test_modes(tmp_path):
    base2new(tmp_path, "CoOp", "dtd", 1, 80.0, 40.0)
    assert "Mode: strict (last epoch, inductive)." in said(table_of(tmp_path, "base2new"))
    base2new(tmp_path, "PromptKD", "dtd", 1, 80.0, 40.0, transductive=True)
    best = {"config": {"TEST": {"FINAL_MODEL": "best_val"}}}
    base2new(tmp_path, "VPT", "dtd", 1, 80.0, 40.0, chosen_on_test=False, **best)
    base2new(tmp_path, "TextRefiner", "dtd", 1, 80.0, 40.0, chosen_on_test=True, **best)
    base2new(tmp_path, "ProGrad", "dtd", 1, 80.0, 40.0, **best)  # as records were before
    base2new(tmp_path, "ZeroshotCLIP", "dtd", 1, 80.0, 40.0, **best)  # which has no epochs
    base2new(tmp_path, "IVLP", "dtd", 1, 80.0, 40.0, config=None)
    base2new(tmp_path, "MaPLe", "dtd", 1, 80.0, 40.0, split="val")
    table = table_of(tmp_path, "base2new")
    assert "Mode: strict (last epoch, inductive): all other runs." in table.notes
    assert "Mode: paper (transductive): PromptKD/vit_b16." in table.notes
    assert "Mode: paper (best epoch on validation images): VPT/vit_b16." in table.notes
    assert "Mode: paper (model chosen on its test images): TextRefiner/vit_b16." in table.notes
    assert any(
        "paper (best epoch, on images that the record does not tell" in note and "ProGrad" in note
        for note in table.notes
    )
    assert "Mode: paper (tested on val images): MaPLe/vit_b16." in table.notes
    assert "Mode unknown (no config beside the log): IVLP/vit_b16." in table.notes
    text = as_text(table)
    assert "PromptKD/vit_b16 †" in text and "† transductive" in text and "CoOp/vit_b16 †" not in text


def test_what_differs_is_said(two_sets):
    base2new(two_sets, "CoOp", "dtd", 1, 80.0, 40.0, shots=4, backbone="RN50")
    base2new(two_sets, "CoOp", "embedded_shapes", 1, 80.0, 40.0, backbone="ViT-Embedded/8")
    table = table_of(two_sets, "base2new", seeds=[1])
    assert "Shots differ: 4, 16." in table.notes
    assert "Backbone: ViT-Embedded/8." in table.notes  # another world, so no difference
    assert any("Backbones differ" in note and "RN50" in note and "Embedded/" not in note for note in table.notes)
    assert any("test bed, no benchmark" in note for note in table.notes)


def test_where_one_class_is_all_is_said(tmp_path):
    one, two = {"ant": {"total": 4}}, {"ant": {"total": 4}, "bee": {"total": 4}}
    base2new(tmp_path, "CoOp", "folder", 1, base=80.0, classwise=two)
    base2new(tmp_path, "CoOp", "folder", 1, new=100.0, classwise=one)
    base2new(tmp_path, "CoOp", "dtd", 1, 80.0, 100.0, classwise=two)
    note = "Tested on images of one class only, where 100% says nothing: folder (new)."
    assert [line for line in table_of(tmp_path, "base2new").notes if "one class" in line] == [note]
    for shots in (1, 4):
        fewshot(tmp_path, "CoOp", "folder", shots, 1, 100.0, classwise=one)
    assert any(line.endswith("says nothing: folder (1, 4 shots).") for line in table_of(tmp_path, "fewshot").notes)


def test_methods_that_saw_different_images_are_named(tmp_path):
    for method, hashed in (("CoOp", "aaaaaaaa1"), ("MaPLe", "aaaaaaaa1"), ("ZeroshotCLIP", "cccccccc1")):
        base2new(tmp_path, method, "dtd", 1, 80.0, 40.0, images_sha256=hashed)
    assert not table_of(tmp_path, "base2new").problems  # zero-shot sees no training image
    base2new(tmp_path, "IVLP", "dtd", 1, 80.0, images_sha256="bbbbbbbb1")
    base2new(tmp_path, "IVLP", "dtd", 1, new=40.0, images_sha256="dddddddd1", weights={"model_dir": "there"})
    (problem,) = [problem for problem in table_of(tmp_path, "base2new").problems if "(base)" in problem]
    assert "seed 1 (aaaaaaaa: CoOp/vit_b16, MaPLe/vit_b16; bbbbbbbb: IVLP/vit_b16)" in problem


def settings(protocol, unlike=(), changed=()):
    return {"protocol": protocol, "mode": "strict", "rows": [], "unlike": [*unlike], "changed": [*changed]}


def test_runs_that_were_resumed_with_other_settings_are_said(tmp_path):
    kept = {"folder": "there", "epoch": 2, "changed": []}
    base2new(tmp_path, "CoOp", "dtd", 1, base=80.0, resumed=kept)
    base2new(tmp_path, "VPT", "dtd", 1, base=80.0, resumed=kept | {"changed": None})  # the folder had no record
    assert not [note for note in table_of(tmp_path, "base2new").notes if "resumed" in note]
    base2new(tmp_path, "MaPLe", "dtd", 1, base=80.0, resumed=kept | {"changed": ["OPTIM.LR", "OPTIM.MAX_EPOCH"]})
    note = "Begun with other settings, and resumed with these (OPTIM.LR, OPTIM.MAX_EPOCH): MaPLe/vit_b16."
    assert note in table_of(tmp_path, "base2new").notes


def test_runs_with_views_of_training_images_are_named(tmp_path):
    changes = ["DATALOADER.VIEWS 4 in place of 0"]
    base2new(tmp_path, "CoOp", "dtd", 1, base=80.0, settings=settings("base2new"))
    base2new(tmp_path, "KgCoOp", "dtd", 1, base=80.0, settings=settings("base2new", changed=changes))
    note = f"Settings that are not those of the protocol: {changes[0]} (KgCoOp/vit_b16)."
    assert note in table_of(tmp_path, "base2new").notes


def test_settings_of_another_protocol_are_said(tmp_path):
    fewshot(tmp_path, "CoOp", "dtd", 1, 1, 60.0, settings=settings("fewshot", unlike=["base2new", "xd"]))
    fewshot(tmp_path, "CoCoOp", "dtd", 1, 1, 60.0, settings=settings("base2new"))  # they are those of few shots too
    assert not [note for note in table_of(tmp_path, "fewshot").notes if note.startswith("Settings")]
    fewshot(tmp_path, "MaPLe", "dtd", 1, 1, 60.0, settings=settings("base2new", unlike=["fewshot"]))
    changes = ["OPTIM.MAX_EPOCH 3 in place of 50"]
    fewshot(tmp_path, "VPT", "dtd", 1, 1, 60.0, settings=settings("fewshot", changed=changes))
    fewshot(tmp_path, "VPT", "dtd", 2, 1, 60.0, settings=settings("fewshot", changed=changes))
    fewshot(tmp_path, "IVLP", "dtd", 1, 1, 60.0, settings=None)
    fewshot(tmp_path, "ProGrad", "dtd", 1, 1, 60.0, settings=["odd"])
    fewshot(tmp_path, "ZeroshotCLIP", "dtd", 1, 1, 60.0, settings=None)
    changes += ["DATALOADER.TRAIN_X.BATCH_SIZE 4 in place of 32", "MODEL.BACKBONE.NAME RN50 in place of ViT-B/16"]
    fewshot(tmp_path, "ZeroshotCLIP2", "dtd", 1, 1, 60.0, settings=settings("fewshot", changed=changes))
    assert [note for note in table_of(tmp_path, "fewshot").notes if note.startswith("Settings")] == [
        "Settings that are not those of the protocol: those of base2new in place of fewshot (MaPLe/vit_b16); "
        "OPTIM.MAX_EPOCH 3 in place of 50 (VPT/vit_b16); MODEL.BACKBONE.NAME RN50 in place of ViT-B/16 (ZeroshotCLIP2/vit_b16).",
        "Settings not in the record, so perhaps not those of the protocol: IVLP/vit_b16, ProGrad/vit_b16.",
    ]


def test_a_source_of_few_shots_is_none_for_other_sets(tmp_path):
    """Both tables of ImageNet's 16 shots, where the training for other sets has a folder of its own or has not."""
    fewshot(tmp_path, "CoOp", "imagenet", 16, 1, 71.0, settings=settings("fewshot", unlike=["base2new", "xd"]))
    across(tmp_path, "xd", "CoOp", "imagenet", "dtd", 1, 42.0, settings=settings("xd", unlike=["fewshot"]))
    assert "those of fewshot in place of xd (CoOp/vit_b16)" in said(table_of(tmp_path, "xd"))
    place = tmp_path / "xd_train/imagenet/shots_16/CoOp/vit_b16/seed1"
    write(place, 72.0, seed=1, subsample="all", settings=settings("xd", unlike=["fewshot"]))
    table = table_of(tmp_path, "xd")
    assert "Settings" not in said(table)
    assert means(table)["imagenet", "CoOp"][:2] == [72.0, 42.0]
    assert means(table_of(tmp_path, "fewshot"))["imagenet", "CoOp"] == [71.0]
