"""What the methods stand on: the trainer under all of them, prompts and their learners, features that are encoded once,
and what a plug-in asks of its host. No method stands here, and nothing here knows one, but for the
list of their names (ours.py).
"""
