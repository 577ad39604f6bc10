"""What the command line reports in one sentence instead of a traceback."""


class TrainingError(Exception):
    """Something that the user can put right; the message says what and how."""
