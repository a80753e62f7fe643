"""What must not leave a hospital by accident, and what must not be made by just anybody.

An `Unreleased` object refuses every usual way of being written down, sent or copied: a forgotten
value is an exception, not a leak. `Private` wraps one value so; a function of it is private too,
and only a paid use takes it out (`accounting.receipts.taken_out`).

    gradient = Private(total)
    gradient.map(lambda total: total / 2)      # another Private
    np.asarray(gradient)                       # TypeError, so do pickle, list, f"{gradient}", ==

A `Made` object, such as a receipt, comes from its `Maker` alone: its class cannot be called,
subclassed, copied or pickled, and the maker tells its own from one that `object.__new__` conjured.
Neither stops code that means harm in the same process; both stop mistakes, and make what goes
around them stand out in a review. Only the standard library is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NoReturn, Self, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
U = TypeVar("U")


def _refuse(thing: object, what: str) -> NoReturn:
    raise TypeError(f"{type(thing).__name__} cannot be {what}: it has not been released")


class Unreleased:
    """Mixin of what holds records, or what follows from them, before noise and a paid use.

    Equality is refused (`is` works), hashes are by identity, and texts are the class's name. This
    holds for dataclasses too, whatever they would write for themselves.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A dataclass leaves alone what stands in the class itself.
        for name in ("__eq__", "__hash__", "__repr__", "__str__"):
            setattr(cls, name, Unreleased.__dict__[name])

    def __array__(self, *_: object, **__: object) -> NoReturn:
        # Without this method numpy would make an array of one object.
        _refuse(self, "made an array")

    def __reduce_ex__(self, _: object) -> NoReturn:
        _refuse(self, "pickled")

    def __copy__(self) -> NoReturn:
        _refuse(self, "copied")

    def __deepcopy__(self, _: object) -> NoReturn:
        _refuse(self, "copied")

    def __iter__(self) -> NoReturn:
        _refuse(self, "iterated over")

    def __format__(self, _: str) -> NoReturn:
        _refuse(self, "written into a text")

    def __bool__(self) -> NoReturn:
        _refuse(self, "decided upon")

    def __float__(self) -> NoReturn:
        _refuse(self, "made a number")

    def __int__(self) -> NoReturn:
        _refuse(self, "made a number")

    def __index__(self) -> NoReturn:
        _refuse(self, "made a number")

    def __eq__(self, _: object) -> NoReturn:
        _refuse(self, "compared")

    def __hash__(self) -> int:
        return id(self) >> 4

    def __repr__(self) -> str:
        return type(self).__name__

    def __str__(self) -> str:
        return type(self).__name__


class Private(Unreleased, Generic[T]):
    """One value that has not been released, for example a sum of clipped gradients."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value  # read by `receipts.taken_out` alone

    def map(self, function: Callable[[T], U]) -> Private[U]:
        """What a function makes of the value: private as well."""
        return Private(function(self._value))


class Made:
    """Base of immutable objects that only their `Maker` makes. Subclasses name their fields."""

    __slots__ = ("__weakref__",)

    def __new__(cls, *_: object, **__: object) -> Self:
        """Refuse to make an object here."""
        raise TypeError(f"a {cls.__name__} is made by its maker only")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if Made not in cls.__bases__:
            raise TypeError(f"{cls.__bases__[0].__name__} cannot be subclassed")

    def __setattr__(self, name: str, _: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise TypeError(f"{type(self).__name__}.{name} cannot be changed")

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled")

    def __copy__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied")

    def __deepcopy__(self, _: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied")


M = TypeVar("M", bound=Made)


class Maker(Generic[M]):
    """Makes the objects of one class, and knows its own from strangers, while they live."""

    def __init__(self, kind: type[M]) -> None:
        self._kind = kind
        # By identity: an object's own equality may be refused, or claim too much.
        self._own: WeakValueDictionary[int, M] = WeakValueDictionary()

    def make(self, **fields: object) -> M:
        """A new object with these fields, its class's slots."""
        made = object.__new__(self._kind)
        for name, value in fields.items():
            object.__setattr__(made, name, value)
        return self.adopt(made)

    def adopt(self, made: M) -> M:
        """Count an object of another maker's as one's own."""
        self._own[id(made)] = made
        return made

    def knows(self, thing: object) -> bool:
        """Whether the object was made here and was not taken yet."""
        return self._own.get(id(thing)) is thing

    def check(self, thing: M) -> None:
        """Refuse a stranger.

        Raises:
            TypeError: it was not made here, or it was taken.
        """
        if not self.knows(thing):
            name = self._kind.__name__
            raise TypeError(f"this {name} was not made by its maker, or it was used before")

    def take(self, thing: M) -> M:
        """Let an object be used up, once.

        Raises:
            TypeError: it was not made here, or it was taken before.
        """
        self.check(thing)
        # Of two threads that take one object, one finds it.
        if self._own.pop(id(thing), None) is not thing:
            self.check(thing)
        return thing
