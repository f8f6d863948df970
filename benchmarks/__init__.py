"""Measurements that are no tests. Commands:

    compare     all methods side by side on the embedded sets
    ablation    which part of Spotlighter earns its place
    fps         images per second of a prediction
    loading     images per second from files to batches
    training    what a researcher waits for, beside the usual way
    gpu         what can only be seen on a GPU
    start       how long a process takes until it can begin
    reliability what is left when trainings, sweeps and nodes are killed

and what they share:

    machine     what machine and which versions a figure is of
    statistics  quartiles, intervals of paired differences, turns
    field       what the field's published code does, re-created: its evaluation and its loader
    field_steps the same of its training steps
    steps       training steps to be timed: a trainer's own, and the field's on the same batch
    made_up     a trainer without a data set
    embedded    the embedded sets: cells, a trainer on one
"""
