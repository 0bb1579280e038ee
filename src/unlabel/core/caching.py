"""Where decoded images are kept, if anywhere: a choice of place, which changes no figure."""

from typing import Any, Literal, TypeAlias, get_args

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest

Cache: TypeAlias = Literal["disk", "memory", "none"]


def checked_cache(cache: Any) -> Cache:
    """The choice, if it is one.

    Args:
        cache: ``disk``: images are decoded once into a file. ``memory``: once into memory, each time that
            the data is opened. ``none``: each time that an image is used.

    Raises:
        OptionError: It is none of these.

    Example:
        >>> checked_cache("ram")
        Traceback (most recent call last):
        unlabel.core.errors.OptionError: the cache is 'ram'; expected one of disk, memory, none.
    """
    if cache not in get_args(Cache):
        raise OptionError(
            f"the cache is {str(cache)[:40]!r}; expected one of {', '.join(get_args(Cache))}."
            f"{suggest(str(cache), get_args(Cache))}"
        )
    return cache
