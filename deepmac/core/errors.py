"""The error a user can mend: bad files, boxes, options, configurations."""


class InputError(ValueError):
    """Says in one line what is wrong with the input, where, and what to do.

    The command line prints the message and exits with status 2; libraries see a `ValueError`; notebooks show
    the message alone.
    """

    def _render_traceback_(self):
        """What IPython shows in place of a traceback, which would hide the message from who can act on it."""
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {self}"]
