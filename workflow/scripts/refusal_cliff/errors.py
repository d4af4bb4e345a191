"""The exceptions that speak to the user."""


class UserError(Exception):
    """Bad input. The message names the key, file or row at fault and says what to do about it."""


class PassingError(UserError):
    """What may be over by the next attempt, such as a network that is down: a job that says so is tried again."""
