"""A real hospital's own file, ``site.toml``: who it is, whose records, what it allows.

The file is named in the SuperNode's node config and never leaves the hospital. What it says about
data and limits wins over whatever a run asks for. Paths in it are relative to the file. A file with
faults is refused with all of them at once::

    site = read_site_file(Path("lyon/site.toml"))
    site.limits.max_epsilon      # 1.0
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accounting.against import EXPECTED as OBSERVERS
from accounting.against import HOSPITAL, parse_against
from accounting.errors import AccountingError
from accounting.limits import SiteLimits
from accounting.vocabulary import REGIMES

#: Folder beside ``site.toml`` for keys, ledger and log; only its owner may enter.
PRIVATE = "private"

_TEXT, _NUMBER, _WHOLE, _SWITCH, _WORDS = (
    "text",
    "a number",
    "a whole number",
    "true/false",
    "a list",
)
_KNOWN: dict[str, dict[str, str]] = {
    "": {
        "hospital": _TEXT,
        "superlink": _TEXT,
        "test-mode": _SWITCH,
        "audit": _SWITCH,
        "allowed-apps": _WORDS,
        "any-app": _SWITCH,
        "trust-on-first-use": _SWITCH,
    },
    "data": {
        "name": _TEXT,
        "dir": _TEXT,
        "public": _SWITCH,
        "patients": _WHOLE,
        "most-patients": _WHOLE,
        "simulated-partition": _WHOLE,
    },
    "limits": {
        "max-epsilon": _NUMBER,
        "delta": _NUMBER,
        "min-noise-multiplier": _NUMBER,
        "min-hospitals": _WHOLE,
        "min-colluders": _WHOLE,
        "max-values": _WHOLE,
        "allowed-regimes": _WORDS,
        "against": _TEXT,
    },
    "allow": {"functions": _WORDS},
    "ledger": {"path": _TEXT, "unwitnessed": _WHOLE, "require-witness": _SWITCH, "home": _TEXT},
    "node": {
        "runtime-port": _WHOLE,
        "poll-seconds": _NUMBER,
        "threads": _WHOLE,
        "processes": _WHOLE,
        "device": _TEXT,
        "answer-every": _NUMBER,
    },
}
#: Of one record, as a run may have it: a picture of 1024 x 1024 in colour, a volume of 161 x 161 x
#: 161.
MAX_VALUES = 2**22
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Bounds in seconds, both included.
_SECONDS = {"poll-seconds": (0.05, 60.0), "answer-every": (0.0, 300.0)}


class SiteFileError(ValueError):
    """A ``site.toml`` that cannot be used; ``faults`` holds a sentence for each fault."""

    def __init__(self, path: Path, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{path}: {fault}" for fault in faults))


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """What a ``site.toml`` says.

    Attributes:
        path: the file.
        hospital: the hospital's name in this consortium.
        superlink: ``host:port`` of the consortium's SuperLink.
        data_name: data set, as in ``data.name`` of a run.
        data_dir: folder of its files; ``""`` for ``$ASCLEPIAS_DATA``.
        data_public: whether displays that would leak are allowed (benchmark data only).
        patients: N_k, declared and public: what local steps are divided by; 0 for the run's N/K.
        most_patients: declared and public: no more train here; 0 where it is not declared.
        simulated_partition: part of a public benchmark cohort that stands for this hospital's
            records, or ``None`` for records of its own.
        limits: what the hospital allows, whatever a run asks for.
        max_values: of one picture or volume, in the size that a run chooses.
        ledger: the ledger, which outlives every run.
        pins: fingerprints of all hospitals' identities, its own among them.
        trust_on_first_use: whether, without pins, the first key seen for a name is pinned.
        allowed_apps: SHA-256 of the app bundles that may run here.
        any_app: whether every bundle may.
        allowed_functions: every "package.module:function" that a run may name as its model; any
            other would be imported, and so run, at the asker's word.
        test_mode: whether seeded runs, which are repeatable and not private, are allowed.
        audit: whether the hospital attacks each training's promise when it closes, for itself.
        runtime_port: port of the SuperNode's own loopback interface; 0 for a free one.
        poll_seconds: pause between two questions to the SuperLink.
        threads: threads of the native libraries in an app process.
        processes: that compute one gradient together, where it takes long.
        device: what it computes on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        answer_every: seconds; answers leave at whole multiples of them. 0: as soon as they are
            ready.
        unwitnessed: places that may be known to the server alone before peers must vouch.
        require_witness: whether peers vouch for the ledger in each training, whatever its home.
        home: ``inode`` where a ledger's file is known by its inode, else ``any``.
    """

    path: Path
    hospital: str
    superlink: str = ""
    data_name: str
    data_dir: str = ""
    data_public: bool = False
    patients: int = 0
    most_patients: int = 0
    simulated_partition: int | None = None
    limits: SiteLimits = field(default_factory=SiteLimits)
    max_values: int = MAX_VALUES
    ledger: Path
    pins: Mapping[str, str] = field(default_factory=dict)
    trust_on_first_use: bool = False
    allowed_apps: frozenset[str] = frozenset()
    any_app: bool = False
    allowed_functions: frozenset[str] = frozenset()
    test_mode: bool = False
    audit: bool = False
    runtime_port: int = 0
    poll_seconds: float = 0.2
    threads: int = 1
    processes: int = 1
    device: str = "auto"
    answer_every: float = 0.0
    unwitnessed: int = 4
    require_witness: bool = False
    home: str = "inode"

    @property
    def private(self) -> Path:
        """Folder of the hospital's keys, ledger and log."""
        return self.path.parent / PRIVATE

    @property
    def bound(self) -> int:
        """What the hospital declares that its patients do not exceed; 0 for nothing."""
        return self.most_patients or self.patients


def read_site_file(path: Path) -> SiteFile:
    """Read and check a ``site.toml``.

    Raises:
        SiteFileError: it cannot be read, or holds faults; all are named.
    """
    path = path.expanduser().absolute()
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fault = "does not exist; name the hospital's folder with --site"
        raise SiteFileError(path, [fault]) from None
    except OSError as error:
        raise SiteFileError(path, [f"cannot be read ({error.strerror})"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteFileError(path, [f"is no TOML ({error})"]) from None
    faults = _faults(given)
    if faults:
        raise SiteFileError(path, faults)
    return _site(path, given)


def _site(path: Path, given: Mapping[str, Any]) -> SiteFile:
    data, limits, node = given["data"], given.get("limits", {}), given.get("node", {})
    ledger = given.get("ledger", {})
    regimes = limits.get("allowed-regimes")
    folder = data.get("dir", "")
    return SiteFile(
        path=path,
        hospital=given["hospital"],
        superlink=given.get("superlink", ""),
        data_name=data["name"],
        data_dir=str(path.parent / Path(folder).expanduser()) if folder else "",
        data_public=data.get("public", False),
        patients=data.get("patients", 0),
        most_patients=data.get("most-patients", 0),
        simulated_partition=data.get("simulated-partition"),
        limits=SiteLimits(
            max_epsilon=_float(limits.get("max-epsilon")),
            delta=_float(limits.get("delta")),
            min_noise_multiplier=float(limits.get("min-noise-multiplier", 0.0)),
            min_hospitals=limits.get("min-hospitals", 0),
            min_colluders=limits.get("min-colluders", 0),
            allowed_regimes=None if regimes is None else tuple(regimes),
            against=parse_against(limits["against"]) if "against" in limits else HOSPITAL,
        ),
        max_values=limits.get("max-values", MAX_VALUES),
        ledger=path.parent / ledger.get("path", f"{PRIVATE}/ledger.jsonl"),
        pins=dict(given.get("pins", {})),
        trust_on_first_use=given.get("trust-on-first-use", False),
        allowed_apps=frozenset(given.get("allowed-apps", ())),
        any_app=given.get("any-app", False),
        allowed_functions=frozenset(given.get("allow", {}).get("functions", ())),
        test_mode=given.get("test-mode", False),
        audit=given.get("audit", False),
        runtime_port=node.get("runtime-port", 0),
        poll_seconds=float(node.get("poll-seconds", 0.2)),
        threads=node.get("threads", 1),
        processes=node.get("processes", 1),
        device=node.get("device", "auto"),
        answer_every=float(node.get("answer-every", 0.0)),
        unwitnessed=ledger.get("unwitnessed", 4),
        require_witness=ledger.get("require-witness", False),
        home=ledger.get("home", "inode"),
    )


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _faults(given: Mapping[str, Any]) -> list[str]:
    faults = []
    tables = {name: value for name, value in given.items() if isinstance(value, dict)}
    tables[""] = {name: value for name, value in given.items() if name not in tables}
    for table, values in tables.items():
        if table == "pins":
            faults += _pin_faults(values)
        elif table not in _KNOWN:
            faults.append(
                f"[{table}] is unknown; known: {', '.join([*filter(None, _KNOWN)])}, pins"
            )
        else:
            faults += _table_faults(table, values)
    for table, key in (("", "hospital"), ("data", "name")):
        if not tables.get(table, {}).get(key):
            faults.append(f"{_key(table, key)} is missing")
    for digest in tables[""].get("allowed-apps", []):
        if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            faults.append(f"allowed-apps holds {digest!r}, expected a SHA-256 in 64 hex digits")
    functions = tables.get("allow", {}).get("functions", [])
    for name in functions if isinstance(functions, list) else []:
        if not (isinstance(name, str) and _FUNCTION.fullmatch(name)):
            faults.append(f"[allow] functions holds {name!r}, expected package.module:function")
    faults += _limit_faults(tables.get("limits", {}))
    for key, (least, most) in _SECONDS.items():
        value = tables.get("node", {}).get(key, least)
        if isinstance(value, int | float) and not least <= value <= most:
            faults.append(f"[node] {key} = {value}, expected {least:g} to {most:g}")
    return faults + _contradictions(tables)


def _contradictions(tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name what is said twice, and differently."""
    faults = []
    if tables[""].get("trust-on-first-use") is True and tables.get("pins"):
        faults.append("trust-on-first-use = true beside [pins]: leave one of them out")
    if tables[""].get("any-app") is True and tables[""].get("allowed-apps"):
        faults.append("any-app = true beside a list of allowed-apps: leave one of them out")
    node, ledger = tables.get("node", {}), tables.get("ledger", {})
    if 1 not in (node.get("threads", 1), node.get("processes", 1)):
        faults.append(
            f"[node] processes = {node['processes']!r} beside threads = {node['threads']!r}: each "
            "of several processes computes with one thread, so leave one of them at 1"
        )
    if ledger.get("home", "inode") not in ("inode", "any"):
        faults.append(f"[ledger] home = {ledger['home']!r}, expected 'inode' or 'any'")
    if ledger.get("unwitnessed", 4) in (0, 1):
        faults.append("[ledger] unwitnessed is at least 2: that many places are open in a round")
    return faults


def _table_faults(table: str, values: Mapping[str, Any]) -> list[str]:
    faults = []
    for key, value in values.items():
        kind = _KNOWN[table].get(key)
        if kind is None:
            known = ", ".join(_KNOWN[table])
            faults.append(f"{_key(table, key)} is unknown; known: {known}")
        elif not _is(kind, value):
            faults.append(f"{_key(table, key)} = {value!r}, expected {kind}")
    return faults


def _limit_faults(limits: Mapping[str, Any]) -> list[str]:
    """What makes no sense about limits of the right kind; a wrong kind is said elsewhere."""
    faults = []

    def check(key: str, kind: str, fits: Callable[[Any], bool], expected: str) -> None:
        value = limits.get(key)
        if value is not None and _is(kind, value) and not fits(value):
            faults.append(f"[limits] {key} = {value!r}, expected {expected}")

    check("max-epsilon", _NUMBER, lambda x: 0.0 < x < math.inf, "a finite number above 0")
    check("delta", _NUMBER, lambda x: 0.0 < x < 1.0, "a number between 0 and 1, both left out")
    check("max-values", _WHOLE, lambda x: x > 0, "a whole number above 0")
    check("min-noise-multiplier", _NUMBER, lambda x: 0.0 <= x < math.inf, "a finite number from 0")
    check("allowed-regimes", _WORDS, set(REGIMES).issuperset, f"some of {', '.join(REGIMES)}")
    check("against", _TEXT, _is_observer, OBSERVERS)
    if "max-epsilon" in limits and "delta" not in limits:
        faults.append(
            f"[limits] delta is missing, and max-epsilon = {limits['max-epsilon']!r} needs one; "
            "expected a number between 0 and 1, such as 1e-4"
        )
    return faults


def _is_observer(text: str) -> bool:
    try:
        parse_against(text)
    except AccountingError:
        return False
    return True


def _pin_faults(values: Mapping[str, Any]) -> list[str]:
    return [
        f"[pins] {name} = {value!r}, expected SHA256: and 43 characters"
        for name, value in values.items()
        if not (isinstance(value, str) and _FINGERPRINT.fullmatch(value))
    ]


def _key(table: str, key: str) -> str:
    return f"[{table}] {key}" if table else key


def _is(kind: str, value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return {
        _TEXT: isinstance(value, str),
        _NUMBER: whole or isinstance(value, float),
        _WHOLE: whole and value >= 0,  # type: ignore[operator]
        _SWITCH: isinstance(value, bool),
        _WORDS: isinstance(value, list) and all(isinstance(word, str) for word in value),
    }[kind]
