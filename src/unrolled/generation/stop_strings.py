"""Ending a stream of text before a stop string, even one that comes in several pieces."""

from collections.abc import Iterable

from unrolled.errors import UnrolledError


class StopStrings:
    """Lets text through up to the first stop string, and holds back only what may be the start of one.

    The stop string that is complete first counts; of several complete at the same character, the longest.
    How the text is cut into pieces changes nothing.

    strings: none, one (a plain `str`) or several.

    Errors: `UnrolledError` if one of them is empty or no text.

    >>> stop = StopStrings("END")
    >>> [stop.push(piece) for piece in ("an E", "N", "d. E", "ND!")], stop.found
    (['an ', '', 'ENd. ', ''], True)
    """

    def __init__(self, strings: str | Iterable[str] = ()) -> None:
        # The longest first, so that the first that fits is the longest that fits.
        strings = (strings,) if isinstance(strings, str) else tuple(strings)
        for string in strings:
            if not isinstance(string, str) or not string:
                raise UnrolledError(
                    f"A stop string is {string!r}; it must be text of at least one character. "
                    "To never stop early, give no stop strings."
                )
        self._strings = sorted(strings, key=len, reverse=True)
        self._held = ""
        self.found = False
        """True once a stop string came; nothing is let through any more."""

    def push(self, text: str) -> str:
        """The text that is now sure to come before any stop string."""
        passed = []
        for character in text if not self.found else "":
            self._held += character
            complete = next((string for string in self._strings if self._held.endswith(string)), None)
            if complete:
                self.found = True
                passed.append(self._held.removesuffix(complete))
                self._held = ""
                break
            while self._held and not any(string.startswith(self._held) for string in self._strings):
                passed.append(self._held[0])
                self._held = self._held[1:]
        return "".join(passed)

    def flush(self) -> str:
        """Ends the text: what was still held back."""
        held, self._held = self._held, ""
        return held
