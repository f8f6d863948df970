"""A fixture that tests of stored features and texts share."""

from tests.trainers.stored_runs import seen  # noqa: F401
