"""Books to write to, and lines to begin with."""

import json
from typing import NamedTuple

from accounting import lines
from accounting.book import Book
from accounting.chain import Flush
from accounting.events import GaussianEvent

EVENT = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)


class Place(NamedTuple):
    training: str
    round: int
    attempt: int


def opened(path, **changes):
    return Book(path, **{"site": "north", "cohort": "lungs", "flush": Flush.WRITE, **changes})


def bind(training="t", **changes):
    digests = {"terms": "T", "own": "O", "members": "M", "code": "C"}
    return lines.bind(training, **{**digests, "rounds": 4, "spare": 2, "failures": 3, **changes})


def keyed(path, **changes):
    book = opened(path)
    book.append(bind(**changes), lines.keyed("t", keys="K"))
    return book


def kinds(path):
    return [json.loads(line).get("kind") for line in path.read_bytes().splitlines()[1:]]
