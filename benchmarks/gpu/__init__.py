"""What can only be seen on a GPU, in one command: under eight minutes on one card, without a network or a data set.

    python -m benchmarks.gpu --no-network
    python -m benchmarks.gpu --device cpu --quick       # that it works, where there is no GPU

    agreement   every method's logits, losses and gradients are the CPU's, in every precision
    speed       training steps against the field's usual ones; images per second of all forms of Spotlighter
    memory      what a step of CoOp takes at its peak
    equality    two equal trainings are equal to the bit
    compiled    training steps by TRAIN.COMPILE, where time is left

and what they share:

    cells       one measurement each: what fails or finds no room is recorded, and the others go on
    parts       each in a process of its own, so that no error of a GPU spoils the next
    show        all of it as Markdown, beside the goals

CLIP is of ViT-B/16's size with random weights, or the shipped one, over pictures that are drawn for this.
"""
