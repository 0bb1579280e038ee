"""Everything that can go wrong through no fault of the program, as one tree.

::

    UnlabelError                    exit code 2
      RequestError                  UnknownLabel · NothingToForget · NothingLeft
      DataError                     MissingFiles · LabelMismatch
      ModelError                    NoLinearHead · CheckpointMismatch
      OptionError
      MethodError                   EmptySelection · Diverged
      PlaceError                    OutOfMemory · ProcessLost

A message says what was found, what was expected and what to do, in one line: the command line prints
it without a traceback. A mistake of our own is an ``assert`` or any other exception: exit code 1.
"""


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
