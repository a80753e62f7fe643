"""What is changed in Flower itself, where it offers no setting: one place, applied by the apps.

Flower announces a message before its bytes have arrived. Whoever fetches them too early pauses
for a second before asking again, so each hand-over would take that second. The pause is a default
of two functions, which no option, argument or variable of Flower's reaches.
"""

from __future__ import annotations

from collections.abc import Callable

#: First pause before bytes that are on their way are asked for again; Flower's own is 1 s.
FETCH_PAUSE_SECONDS = 0.05
_DEFAULT = "initial_backoff"


def shorten_fetch_pause() -> None:
    """Shorten Flower's first pause in this process; a Flower without that pause stays as it is."""
    for function in _fetching():
        defaults = function.__kwdefaults__
        if defaults and _DEFAULT in defaults:
            defaults[_DEFAULT] = FETCH_PAUSE_SECONDS


def _fetching() -> tuple[Callable[..., object], ...]:
    from flwr.supercore.inflatable import inflatable_utils

    return (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree)
