"""The two error roots. Bad data is neither: it is a `schemas.rejection.Rejection` with a reason.

Whoever meets a failure of the outside world raises one of these, so that loops decide by type, never by message.
"""


class RetryError(Exception):
    """It may work later, unchanged: refused or broken connections, time-outs, an overloaded or read-only server."""


class FatalError(Exception):
    """It will not work by trying again: wrong SQL, an unknown table, a refused login. The process ends and says why."""
