"""Protocols and sweeps: what runs a table consists of, and doing them all.

protocols.py   what a run is: its folder, its command line, the runs it needs   (the only place that knows)
one.py         one run, for scripts/<method>/*.sh
__main__.py    many: python -m sweep --methods CoOp Spotlighter --datasets all11 --seeds 1 2 3
work.py        a run at work: lock, process, outcome
start.py       how its process starts: on Linux forked from
server.py      a process that has imported what all runs need
progress.py    what is done, what failed, how long it still takes
on_local.py, on_ray.py, on_slurm.py   where the runs are done
"""
