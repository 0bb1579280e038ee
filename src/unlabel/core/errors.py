"""Everything that can go wrong through no fault of the program, as one tree.

::

    UnlabelError                    exit code 2
      RequestError                  UnknownLabel · NothingToForget · NothingLeft
      DataError                     MissingFiles · LabelMismatch · ReadError
      ModelError                    NoLinearHead · CheckpointMismatch
      OptionError
      MethodError                   EmptySelection · Diverged
      PlaceError                    OutOfMemory · ProcessLost
      WriteError

A message says what was found, what was expected and what to do, in one line: the command line prints
it without a traceback. A mistake of our own is an ``assert`` or any other exception: exit code 1.
`ReadError` and `WriteError` are an ``OSError``, too.
"""

import errno
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TOO_MANY = (errno.EMFILE, errno.ENFILE)
NO_MEMORY = (errno.ENOMEM, errno.EAGAIN)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class UnlabelError(Exception):
    """A user's input, data, model or option cannot be used as it is."""


class RequestError(UnlabelError):
    """The request to forget does not fit the model's labels."""


class UnknownLabel(RequestError):
    """A label is named that the model does not have."""


class NothingToForget(RequestError):
    """No label is named, or every named label is forgotten already."""


class NothingLeft(RequestError):
    """Every label would be forgotten."""


class DataError(UnlabelError):
    """The data set cannot be read, or does not fit what is asked of it."""


class MissingFiles(DataError):
    """A file or folder that must exist does not."""


class LabelMismatch(DataError):
    """The data's label columns are not those the model needs."""


class ModelError(UnlabelError):
    """The model or its run folder cannot be used."""


class NoLinearHead(ModelError):
    """No last linear layer with one output a label was found."""


class CheckpointMismatch(ModelError):
    """Saved weights are damaged or belong to another architecture."""


class OptionError(UnlabelError):
    """An option has a value outside its range, or contradicts another."""


class MethodError(UnlabelError):
    """A method could not do its work."""


class EmptySelection(MethodError):
    """A method selected or changed no weight."""


class Diverged(MethodError):
    """The loss became NaN or infinite."""


class PlaceError(UnlabelError):
    """The machines cannot do the work."""


class OutOfMemory(PlaceError):
    """A device's memory does not hold a micro-batch."""


class ProcessLost(PlaceError):
    """A process of the command was killed, or its machine is gone."""


class ReadError(DataError, OSError):
    """A file cannot be read: it is not there, is no regular file, is too large, or may not be read."""

    @classmethod
    def at(cls, file: Path, reason: str) -> "ReadError":
        """The error of reading a file, with the reason alone as `strerror`."""
        failure = cls(
            f"cannot read {file}: {reason}; expected a regular file of a usual size, which you may read"
        )
        failure.strerror = reason
        return failure


class WriteError(UnlabelError, OSError):
    """A file or folder could not be written; what was there before is there still."""

    @classmethod
    def at(cls, target: Path, error: OSError) -> "WriteError":
        """The error of writing a place that the user named, though it struck in a hidden file beside it."""
        reason = error.strerror or str(error)
        failure = cls(f"cannot write {target}: {reason}; {advice(error)}; nothing was half-written")
        failure.strerror = reason
        return failure


def advice(error: OSError) -> str:
    """What to do about an error of the file system, or about a limit of the machine."""
    number = error.errno or getattr(error.__cause__, "errno", None)
    if number in FULL:
        return "free some space there, or name another place"
    if number in TOO_MANY:
        return "allow more open files (ulimit -n), or name fewer --devices"
    if number in NO_MEMORY:
        return "free some memory, or name fewer --devices"
    if number in FORBIDDEN:
        return "allow access to it, or name another place"
    return "check that place, or name another"


def again(kind: str, message: str) -> UnlabelError:
    """The error that another process told by its name; a plain `UnlabelError` if no error is called so."""
    named = globals().get(kind)
    return (
        named(message)
        if isinstance(named, type) and issubclass(named, UnlabelError)
        else UnlabelError(message)
    )
