"""The error that a person can cure: what came, what was expected, what to do next."""


class UnrolledError(ValueError):
    """A mistake in what the user gave; the message alone must be enough to mend it.

    The command line prints the message without a traceback and exits with status 2.
    """
