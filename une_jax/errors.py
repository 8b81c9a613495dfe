"""The one error that a user's input can raise."""


class UneError(ValueError):
    """A one-line message that names the bad input and says what to do about it."""
