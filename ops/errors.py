"""The one exception a user is meant to read, and how the front scripts show it."""

import os
import sys
from collections.abc import Callable

from ops.stopping import STATUS, Stopped


class UserError(Exception):
    """Something the user can mend: the message is one line that says what, where (``file:line``) and what to do.

    The front scripts print it as ``error: <line>`` on standard error and exit with status 2, without a traceback.
    """


def run_front(main: Callable[[], None]) -> None:
    """Run ``main``; a ``UserError`` becomes ``error: <line>`` and exit status 2, Ctrl-C becomes exit status 130, a closed
    pipe (``... | head``) 141, a run that was asked to stop and has saved its state 75."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(STATUS)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more as it ends
        sys.exit(141)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
