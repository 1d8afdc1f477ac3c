"""Runs a command that ends with whoever holds its standard input open.

    python -m deepmac.suite.tether COMMAND...

A training whose worker is killed must end at once when another machine goes on with it.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Runs the command of the command line; returns its exit status."""
    # Ctrl-C reaches the command too, and is its to handle.
    signal.signal(signal.SIGINT, lambda *_: None)
    # Inherits the files that this process was given, such as a lock.
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False)

    def kill_when_let_go():
        os.read(sys.stdin.fileno(), 1)  # returns when nobody holds the other end
        child.kill()

    threading.Thread(target=kill_when_let_go, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
