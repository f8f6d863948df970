"""Images per second of zero-shot CLIP, CoOp and Spotlighter, from a normalised batch on the device to the class.

    python -m benchmarks.fps
    python -m benchmarks.fps --device cpu --backbone ViT-B/16 --batch 16 --rounds 5

All rows share one CLIP, its precision and the batch. Every round times every row once, in rotating order, so that
whatever else the machine does falls on all of them; ratios to zero-shot CLIP are taken within a round. What does not
depend on a batch (text features, the bank's classes) is computed beforehand, as in an evaluation, except in the row
that re-creates the field's usual evaluation. ViT-B/16 has random weights: they decide no time.

    predictors   the rows: each a function from images to classes
    measure      operations counted, time taken: a record of each row
    profiles     where the time of a prediction goes
    show         records, as they are printed
"""
