"""The one error that a user sees as a line."""


class UserError(Exception):
    """Something the user can set right: the message says what is wrong and what to do next. Exit code 2."""
