"""What kills and long sweeps leave behind: trainings, sweeps and a cluster's nodes are killed at random moments, and what
comes of them in the end is compared with what an uninterrupted run left.

    python -m benchmarks.reliability
    python -m benchmarks.reliability --quick --parts trainings sweeps

On a CPU a run that was killed, however often, is to end with the same bits. Four parts:

trainings.py   SIGKILL to trainings, at a random moment or before a random change of a file
sweeps.py      SIGKILL, SIGTERM and SIGINT to sweeps of this machine's queue; one long sweep, its memory and open files
cluster.py     a node of a Ray cluster is lost in the midst of a sweep

child.py, compare.py, pictures.py: processes that are killed, what two runs differ in, what they train on.
"""
