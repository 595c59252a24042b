"""How every command ends: with its exit code, and one sentence where something is wrong.

0: done. 1: the work was begun, and is not whole or not good enough. 2: the request cannot be
met as it stands; what it names, or the machine, must change first. Else a signal's, as in a shell.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable

from olmrl.errors import RunStopped, first_line, is_of_client, sentence
from olmrl.printable import printable

UNFINISHED = 1
"""Exit code of work that began and ended early."""
WRONG = 2
"""Exit code of a request that cannot be met."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as of a shell."""
TERMINATED = 143
"""Exit code after SIGTERM, as of a shell."""
_PIPE_CLOSED = 141


def behind_door(prog: str, work: Callable[[], int | None], *, stopped: str = "stopped") -> int:
    """Do a command's work and give its exit code; a user's error becomes a sentence.

    Where the reader of the output is gone (`| head`), the command ends without a word.

    Args:
        prog: the command as the user called it, which the sentence begins with.
        work: gives the exit code; None is 0.
        stopped: what to say after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = int(work() or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # what is still in the buffer would be written at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (ValueError, OSError, EOFError) as error:
        return complain(prog, error, WRONG)
    except RunStopped as error:
        return complain(prog, error, UNFINISHED)
    except KeyboardInterrupt:
        return complain(prog, stopped, INTERRUPTED)
    except Exception as error:
        if lost := _lost(error):
            return complain(prog, lost, UNFINISHED)
        return complain(prog, of_storage(error), WRONG)
    except SystemExit as error:
        if not is_sigterm(error):
            raise
        return complain(prog, stopped, TERMINATED)


def _lost(error: Exception) -> str:
    """The sentence for the loss of a process or node of Ray; empty for any other error."""
    if "ray.exceptions" not in sys.modules:
        return ""
    from olmrl.lost import of_ray, part  # noqa: PLC0415  (imports Ray)

    if not of_ray(error):
        return ""
    return f"Ray lost a part of the work ({part(error)}); the same command goes on or begins anew"


def of_storage(error: Exception) -> str:
    """What an error of remote storage says; any other is raised again."""
    if not is_of_client(error):
        raise error
    return f"remote storage cannot be used: {first_line(error)}"


def is_sigterm(error: BaseException) -> bool:
    """Whether an error is Ray's word for SIGTERM: it exits with the signal's number."""
    return isinstance(error, SystemExit) and error.code == signal.SIGTERM


def complain(prog: str, error: BaseException | str, code: int) -> int:
    """Print an error as the command's own sentence; gives the exit code."""
    said = error if isinstance(error, str) else sentence(error)
    sys.stderr.write(f"{prog}: {printable(said)}\n")
    return code
