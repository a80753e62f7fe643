"""What a hospital's book costs: a round's four lines, and opening it again.

python benchmarks/book_cost.py [--json FILE] [--rounds 3000]
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from accounting import lines
from accounting.book import Book
from accounting.chain import Flush
from accounting.events import GaussianEvent

EVENT = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)
DIGEST = "0123456789abcdef" * 4


class Place(NamedTuple):
    """Where a message belongs."""

    training: str
    round: int
    attempt: int


def opened(path: Path, flush: Flush) -> Book:
    """A book with a training that has its keys."""
    book = Book(path, site="north", cohort="lungs", flush=flush)
    digests = {"terms": DIGEST, "own": DIGEST, "members": DIGEST, "code": DIGEST}
    book.append(
        lines.bind("t", **digests, rounds=10**6, spare=0, failures=6),
        lines.keyed("t", keys=DIGEST),
    )
    return book


def train(book: Book, rounds: int) -> list[float]:
    """Seconds of each round: commit, close, spend, seal."""
    took = []
    for number in range(1, rounds + 1):
        place = Place("t", number, 1)
        start = time.perf_counter()
        if number > 1:
            before = Place("t", number - 1, 1)
            book.append(lines.commit(before, roster=DIGEST, total=DIGEST))
            book.append(lines.close("t", round=number - 1, chain=DIGEST))
        book.spend(place, EVENT, purpose="gradients").use(number, 1)
        book.append(lines.seal(place, reply=DIGEST))
        took.append(time.perf_counter() - start)
    return took


def _measure(rounds: int) -> list[dict[str, float | str]]:
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for flush, count in ((Flush.WRITE, rounds), (Flush.DISK, min(rounds, 300))):
            path = Path(folder) / flush.value
            took = median(train(opened(path, flush), count))
            rows.append({"what": f"a round's lines, {flush.value}", "us": 1e6 * took})
        path = Path(folder) / Flush.WRITE.value
        start = time.perf_counter()
        number, _ = Book(path, site="north", cohort="lungs").head()
        took = time.perf_counter() - start
        rows.append({"what": f"opening a book of {number:,} lines", "us": 1e6 * took})
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--rounds", type=int, default=3_000)
    options = parser.parse_args()
    rows = _measure(options.rounds)
    for row in rows:
        print(f"{row['what']:40}{row['us']:12.1f} us")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    _main()
