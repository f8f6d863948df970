"""What a researcher waits for: training steps, whole runs by phase, a table of methods, and how all grows; beside the usual way."""
