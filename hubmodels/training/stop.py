"""The one way in which training refuses to go on."""


class Stop(SystemExit):
    """A line for the person at the terminal: Python prints it without a traceback and exits with 1."""
