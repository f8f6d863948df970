"""Bad input by the thousand: each kind of file, and the command line, in a module of its own.

An input is a good one that chance has spoilt (`mutate.py`), or a known trap. What reads it has to refuse it in one
sentence, or to give exactly what stands in it; `harness.py` counts what happened. `python -m tests.fuzz` does many.
"""
