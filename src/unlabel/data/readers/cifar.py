"""CIFAR-10's batch files: pickles, read without unpickling.

A pickle is a program, and the usual reader runs whatever that program names. The batches need a score of its
instructions, so these are interpreted here: dictionaries, lists, tuples, numbers, bytes, one array of bytes.
Nothing that a file names is imported or called.
"""

import pickletools
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.reading import read_plain

_T = TypeVar("_T")

MAX_BYTES = 200_000_000
"""A batch file has 31 million; a much larger one is refused unread."""

_VALUES = 3 * 32 * 32
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUT, _GET = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NAMES = {
    "_codecs encode": "bytes",
    "numpy ndarray": "type",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
}
"""What the batches name, and what stands for it here; Python 3 writes bytes as a call of ``encode``."""


class _Refused(Exception):
    """The file is no batch; the message is the reason."""


class _Name:
    """Stands for an imported name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Built:
    """Stands for an array or its type, with the arguments and the state that the file gives it."""

    def __init__(self, kind: str, arguments: Any) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: tuple[Any, ...] = ()


def read_batch(path: Path, classes: int = 10) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels and classes of a batch file.

    Args:
        path: Such as ``data_batch_1``.
        classes: How many classes there are.

    Returns:
        uint8 (image, 32, 32, 3), and int64 (image,) from 0.

    Raises:
        DataError: The file cannot be opened, is no such batch, or holds instructions that no batch needs.
    """
    data = read_plain(path, MAX_BYTES)
    try:
        return _batch(_interpret(data), classes)
    except _Refused as error:
        reason = str(error)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:  # of a damaged program
        reason = " ".join(str(error).split())[:120] or type(error).__name__
    raise DataError(f"{path} is not a batch of CIFAR-10 ({reason}); unpack the original archive again")


def _batch(content: Any, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not isinstance(content, dict):
        raise _Refused(f"it holds a {type(content).__name__}, expected a dictionary")
    named = {
        key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in content.items()
    }
    array, labels = named.get("data"), named.get("labels")
    if not isinstance(array, _Built) or array.kind != "array" or not isinstance(labels, list):
        raise _Refused(f"expected data and labels, found {sorted(named)[:5]}")
    if not all(type(label) is int and 0 <= label < classes for label in labels):
        raise _Refused(f"a label is not a whole number from 0 to {classes - 1}")
    if len(array.state) != 5:
        raise _Refused("its data are not an array")
    _, shape, kind, by_column, raw = array.state
    if not isinstance(kind, _Built) or kind.kind != "dtype" or kind.arguments[0] not in (b"u1", "u1"):
        raise _Refused("its data are not bytes")
    if shape != (len(labels), _VALUES) or by_column is not False or not isinstance(raw, bytes):
        raise _Refused(f"its array is not of {len(labels)} rows, one a label, of {_VALUES} values")
    if len(raw) != len(labels) * _VALUES:
        raise _Refused(f"expected {len(labels) * _VALUES:,} bytes of pixels, found {len(raw):,}")
    planes = np.frombuffer(raw, np.uint8).reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.int64)


def _interpret(data: bytes) -> Any:
    """The value that the program leaves, made of dictionaries, lists, tuples, numbers, text and `_Built`."""
    machine = _Machine(len(data))
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "STOP":
            return machine.stack.pop()
        if not (machine.put(operation.name, argument) or machine.change(operation.name, argument)):
            raise _Refused(f"its instruction {operation.name} is not one that a batch needs, and was not run")
    raise _Refused("it ends early")


class _Machine:
    """The stack, the marks on it and the memory of a pickle's program, none of which runs anything."""

    def __init__(self, size: int) -> None:
        self.size, self.encoded = size, 0  # bytes of the file, and bytes that it wrote as text
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def put(self, name: str, argument: Any) -> bool:
        """Carries out an instruction that puts a value on the stack; False where it is none."""
        match name:
            case "EMPTY_DICT":
                value: Any = {}
            case "EMPTY_LIST":
                value = []
            case "EMPTY_TUPLE":
                value = ()
            case "BININT" | "BININT1" | "BININT2" | "BINUNICODE":
                value = argument
            case "BINSTRING" | "SHORT_BINSTRING":  # Python 2 wrote bytes so; `genops` shows them as latin-1
                value = str(argument).encode("latin-1")
            case "GLOBAL":
                if argument not in _NAMES:
                    raise _Refused(f"it asks for {str(argument)[:60].replace(' ', '.')!r}, which was not run")
                value = _Name(_NAMES[str(argument)])
            case name if name in _CONSTANTS:
                value = _CONSTANTS[name]
            case name if name in _GET:
                value = self.memo[int(argument or 0)]
            case _:
                return False
        self.stack.append(value)
        return True

    def change(self, name: str, argument: Any) -> bool:
        """Carries out an instruction that works on what is there already; False where it is none."""
        stack = self.stack
        match name:
            case "PROTO":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(_since(stack, self.marks)))
            case "APPEND":
                value = stack.pop()
                _typed(stack[-1], list).append(value)
            case "APPENDS":
                values = _since(stack, self.marks)
                _typed(stack[-1], list).extend(values)
            case "SETITEM":
                values = [stack.pop(-2), stack.pop()]
                _fill(stack[-1], values)
            case "SETITEMS":
                values = _since(stack, self.marks)
                _fill(stack[-1], values)
            case "REDUCE":
                arguments, called = _typed(stack.pop(), tuple), _typed(stack.pop(), _Name)
                stack.append(self._called(called, arguments))
            case "BUILD":
                state = _typed(stack.pop(), tuple)
                _typed(stack[-1], _Built).state = state
            case name if name in _TUPLES:
                taken = _TUPLES[name]
                stack[-taken:] = [tuple(stack[-taken:])]
            case name if name in _PUT:
                self.memo[int(argument or 0)] = stack[-1]
            case _:
                return False
        return True

    def _called(self, called: _Name, arguments: tuple[Any, ...]) -> Any:
        """The value of a call: bytes, which Python 3 writes as encoded text, or a `_Built`."""
        if called.kind != "bytes":
            return _Built(called.kind, arguments)
        text, codec = arguments
        self.encoded += len(text)
        if codec != "latin1" or self.encoded > self.size:
            raise _Refused("its bytes are encoded otherwise than a batch's")
        return text.encode("latin-1")


def _since(stack: list[Any], marks: list[int]) -> list[Any]:
    """Takes what was put on the stack after the last mark."""
    start = marks.pop()
    taken = stack[start:]
    del stack[start:]
    return taken


def _fill(target: Any, pairs: list[Any]) -> None:
    keys = [key if isinstance(key, bytes | str) else _typed(key, str) for key in pairs[::2]]
    _typed(target, dict).update(zip(keys, pairs[1::2], strict=True))


def _typed(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise _Refused(
            f"it puts a {type(value).__name__} where a batch has a {kind.__name__.strip('_').lower()}"
        )
    return value
