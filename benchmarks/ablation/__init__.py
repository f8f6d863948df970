"""Does each part of Spotlighter earn its place? Base-to-new on the embedded sets, seed by seed, part by part.

    python -m datasets.embedded --root data
    python -m benchmarks.ablation --root data                           # about an hour on two cores; goes on where it stopped
    python -m benchmarks.ablation --root data --rows fit --name ablation_fit    # ways to fit the scalars (a quarter of an hour)
    python -m benchmarks.ablation --root data --rows heads --name ablation_heads    # beside the paper's form
    python -m datasets.embedded --root data-2 --world 2
    python -m benchmarks.ablation --root data-2 --rows core --name world2

Every number comes from the method's own code: the trainer is built as `train.py` builds it, the host runs its own
epochs, the head fits itself. Only the loader is replaced: image features are computed once, for the image side is
frozen and the embedded configs augment nothing. Settings are compared on the same images and the same host.

A cell is one set and one seed; its accuracies go to `<work>/<name>/<set>_<seed>.json` as soon as they are known.
The table averages H over sets first, then takes a Student-t interval (95%) over the seeds' paired differences.

    encoded    a trainer's images, encoded once: what the rows are computed from
    rows       the rows
    groups     a few of them, asked for alone
    cells      what one set at one seed has of them
    table      cells -> means, gains, markdown and the figures that other programs ask for
"""
