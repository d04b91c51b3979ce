"""Errors whose text is written for the person at the screen."""


class UserFacingError(Exception):
    """str(error) says what failed, with which value, and what to do next, in one line."""


class ImportRejected(UserFacingError):
    """A file was refused at the door; nothing of it was imported."""


class AccessMissing(UserFacingError):
    """Gated data or a key-protected service was asked for without access."""


class SettingsRejected(UserFacingError):
    """A setting has a value the work cannot be done with."""


class PromptTooLong(UserFacingError):
    """A prompt does not fit the model's context; it is refused, never cut silently."""


class ModelUnavailable(UserFacingError):
    """The named model is unknown here or cannot be loaded."""
