"""The error a user can mend: bad files, boxes, options, configurations."""

import importlib.metadata
import re

# Modules that are not called as the packages that install them.
_PACKAGES = {
    "absl": "absl-py",
    "cv2": "opencv-python-headless",
    "google": "protobuf",
    "official": "tf-models-official",
    "skimage": "scikit-image",
}


class InputError(ValueError):
    """Says in one line what is wrong with the input, where, and what to do.

    The command line prints the message and exits with status 2; libraries see a `ValueError`; notebooks show
    the message alone.
    """

    def _render_traceback_(self):
        """What IPython shows in place of a traceback, which would hide the message from who can act on it."""
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {self}"]


def missing_package(error: ModuleNotFoundError) -> Exception:
    """Says how to install what an import did not find.

    Returns:
        An `InputError` that names the part of this package that brings it; the error itself if none does.
    """
    module = (error.name or "").partition(".")[0]
    package = _PACKAGES.get(module, module.replace("_", "-"))
    for requirement in importlib.metadata.requires("deepmac") or ():
        optional = re.match(rf"{re.escape(package)}\b(?![-\[]).*extra == ['\"](\w+)['\"]", requirement)
        if optional:
            return InputError(f"this needs the package {package}: run pip install 'deepmac[{optional[1]}]'")
    return error
