"""The error that a person can cure: what came, what was expected, what to do next."""

# What is not installed with the package alone -> what it is for and the extra that brings it.
_EXTRAS = {"torch": ("training and layers", "train"), "matplotlib": ("drawing", "draw")}


class UnrolledError(ValueError):
    """A mistake in what the user gave; the message alone must be enough to mend it.

    The command line prints the message without a traceback and exits with status 2.
    """


def missing_extra(error: ImportError) -> str | None:
    """How to install what `error` says is not there; None if it is no extra of this package.

    >>> missing_extra(ModuleNotFoundError("No module named 'torch'", name="torch"))
    "training and layers need torch, which is not installed; install it with: pip install 'unrolled[train]'"
    """
    if error.name is None or error.name.split(".")[0] not in _EXTRAS:
        return None
    purpose, extra = _EXTRAS[error.name.split(".")[0]]
    verb = "need" if " and " in purpose else "needs"
    return f"{purpose} {verb} {error.name}, which is not installed; install it with: pip install 'unrolled[{extra}]'"
