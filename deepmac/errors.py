"""The error a user can mend: bad files, boxes, options, configurations."""


class InputError(ValueError):
    """Says in one line what is wrong with the input, where, and what to do.

    The command line prints the message and exits with status 2; libraries see a `ValueError`.
    """
