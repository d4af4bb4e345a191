"""The one exception that speaks to the user."""


class UserError(Exception):
    """Bad input. The message names the key, file or row at fault and says what to do about it."""
