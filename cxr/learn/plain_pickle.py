"""Reads a pickle as plain data: numbers, texts, lists and mappings. Nothing that it names is imported or called.

A pickle is a program for a small stack machine. Python's machine calls any function that the program names, and a few
bytes can make it fill the memory. The machine here knows only the instructions that ``torch.save`` writes (protocol 2).
It asks its caller what to put in place of each name, and stops at its limits.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Any, cast

MOST_STEPS = 1_000_000
"""Largest number of instructions of a pickle. A ResNet-50 with its optimizer has about 30,000."""

MOST_VALUES = 1_000_000
"""Largest number of values in a pickle. A value that is in two places counts twice."""

DEEPEST = 64
"""Largest number of containers inside each other. A checkpoint has about ten."""

_MOST_BITS = 128  # in an integer; the state of a random number generator has so many
_KEYS = (str, int, type(None))
_MOST_KEY = 2**60  # larger integers may all have the same hash, which makes a mapping slow


class PickleError(ValueError):
    """The error of a pickle that is damaged, or holds more than plain data."""


class Opaque:
    """Takes the place of an object whose class is not read. It keeps the object's state and does nothing.

    Attributes:
        state: state of the object, None if it has none.
    """

    def __init__(self) -> None:
        self.state: Any = None


Named = Callable[[str, str], Any]
"""Function of module and name. It returns what takes their place: a function of a tuple of arguments, or a value."""


def read_pickle(data: bytes, named: Named, stored: Callable[[Any], Any], start: int = 0) -> tuple[Any, int]:
    """Return the value of the pickle that begins at ``start``, and the position of its end.

    Args:
        data: bytes of the file.
        named: called with each module and name in the pickle; returns what takes their place.
        stored: called with each persistent id; returns the object that is stored outside of the pickle.
        start: byte at which the pickle begins.

    Raises ``PickleError``, and any exception of ``named`` and ``stored``.
    """
    machine = _Machine(data, start, named, stored)
    try:
        value = machine.run()
    except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
        raise PickleError(f"it is damaged at byte {machine.place} of its pickle") from error
    _refuse_too_much(value)
    return value, machine.place


class _Mark:
    """Marks the place on the stack where the items of a tuple or list begin."""


_MARK = _Mark()


class _Machine:
    """Executes instructions one by one; ``place`` is the position of the next byte."""

    def __init__(self, data: bytes, start: int, named: Named, stored: Callable[[Any], Any]) -> None:
        self.data, self.place = data, start
        self.named, self.stored = named, stored
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise PickleError(f"its pickle has the instruction {code!r}, which torch does not write for plain data")
            instruction(self)
        raise PickleError(f"its pickle has more than {MOST_STEPS:,} instructions")

    def take(self, count: int) -> bytes:
        end = self.place + count
        if end > len(self.data):
            raise PickleError("its pickle ends too early")
        taken = self.data[self.place : end]
        self.place = end
        return taken

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.place, self.place + 1000)
        if end < 0:
            raise PickleError("its pickle has a name that does not end")
        return self.take(end + 1 - self.place)[:-1].decode()

    def since_mark(self) -> list[Any]:
        """Remove all values above the last mark from the stack, and the mark; return the values."""
        place = next((n for n in range(len(self.stack) - 1, -1, -1) if self.stack[n] is _MARK), None)
        if place is None:
            raise PickleError("it is damaged: its pickle closes what it did not open")
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if isinstance(function, Opaque):
            self.stack.append(Opaque())
        elif isinstance(arguments, tuple) and callable(function):
            self.stack.append(function(arguments))
        else:
            raise PickleError("its pickle calls what is no function")

    def build(self) -> None:
        """Set the state of an object. Attributes that a mapping has beside its items (``_metadata``) are left out."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Opaque):
            target.state = state
        elif not isinstance(target, dict):
            raise PickleError(f"its pickle fills an object of type {type(target).__name__}")

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise PickleError(f"its pickle appends to an object of type {type(target).__name__}")

    def set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2 or not isinstance(target, dict | Opaque):
            raise PickleError(f"its pickle puts items into an object of type {type(target).__name__}")
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[checked_key(key)] = value

    def integer(self) -> None:
        value = int.from_bytes(self.take(self.number("<B")), "little", signed=True)
        if value.bit_length() > _MOST_BITS:
            raise PickleError(f"it holds an integer of {value.bit_length()} bits, allowed are {_MOST_BITS}")
        self.stack.append(value)

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise PickleError("it is damaged: its pickle takes a value from an empty stack")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)


def checked_key(key: Any) -> Any:
    """Return the key of a mapping. Raises ``PickleError`` unless it is a text, a small integer or None."""
    if isinstance(key, Opaque) or (isinstance(key, _KEYS) and not (isinstance(key, int) and abs(key) >= _MOST_KEY)):
        return key
    raise PickleError(f"it holds a mapping whose key is of type {type(key).__name__}, or an integer beyond 60 bits")


def _push(value: Callable[["_Machine"], Any]) -> Callable[["_Machine"], None]:
    """Return the instruction that puts the result of ``value`` on the stack."""
    return lambda machine: machine.stack.append(value(machine))


def _remember(layout: str) -> Callable[["_Machine"], None]:
    return lambda machine: machine.memo.__setitem__(machine.number(layout), machine.stack[-1])


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # protocol number; instructions of other protocols are refused anyway
    b"(": _push(lambda m: _MARK),
    b"0": lambda m: m.stack.pop(),
    b"1": lambda m: m.since_mark(),
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"K": _push(lambda m: m.number("<B")),
    b"M": _push(lambda m: m.number("<H")),
    b"J": _push(lambda m: m.number("<i")),
    b"\x8a": _Machine.integer,
    b"G": _push(lambda m: m.number(">d")),
    b"X": _push(lambda m: m.take(m.number("<I")).decode("utf-8", "surrogatepass")),
    b"U": _push(lambda m: m.take(m.number("<B")).decode("latin1")),
    b"T": _push(lambda m: m.take(m.number("<I")).decode("latin1")),
    b")": _push(lambda m: ()),
    b"t": _push(lambda m: tuple(m.since_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"]": _push(lambda m: []),
    b"a": lambda m: m.add([m.stack.pop()]),
    b"e": lambda m: m.add(m.since_mark()),
    b"}": _push(lambda m: {}),
    b"s": lambda m: m.set([m.stack.pop(-2), m.stack.pop()]),
    b"u": lambda m: m.set(m.since_mark()),
    b"c": _push(lambda m: m.named(m.line(), m.line())),
    b"R": _Machine.call,
    b"\x81": _Machine.call,  # calls a class
    b"b": _Machine.build,
    b"q": _remember("<B"),
    b"r": _remember("<I"),
    b"h": _push(lambda m: m.memo[m.number("<B")]),
    b"j": _push(lambda m: m.memo[m.number("<I")]),
    b"Q": _push(lambda m: m.stored(m.stack.pop())),
}


def _refuse_too_much(value: Any) -> None:
    """Raise ``PickleError`` if walking through ``value`` would not end, or would take too long.

    A container may be in several places: forty lists, each of them twice in the next, make a million million values. A
    container may even contain itself.
    """
    known: dict[int, tuple[int, int]] = {}  # id of a container → number of values in it, and its depth

    def measure(node: Any, depth: int) -> tuple[int, int]:
        if id(node) in known or not isinstance(node, dict | list | tuple | Opaque):
            return known.get(id(node), (1, 0))
        if depth > DEEPEST:  # also ends the walk through a container that contains itself
            raise PickleError(f"it holds containers more than {DEEPEST} deep in each other")
        parts = [measure(child, depth + 1) for child in _children(node)]
        values, deep = 1 + sum(count for count, _ in parts), 1 + max((below for _, below in parts), default=0)
        if values > MOST_VALUES:
            raise PickleError(f"it holds more than {MOST_VALUES:,} values")
        if depth + deep > DEEPEST:
            raise PickleError(f"it holds containers more than {DEEPEST} deep in each other")
        known[id(node)] = values, deep
        return values, deep

    measure(value, 0)


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, Opaque):
        return (node.state,)
    return list(node.values()) if isinstance(node, dict) else cast(Iterable[Any], node)
