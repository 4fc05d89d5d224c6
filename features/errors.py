"""The one exception for a user's mistake; the command line prints it as one line and exits with status 2."""


class UserError(Exception):
    """What is wrong, what was expected and what to do next, in one line that needs no traceback."""
