"""What travels beside every message of an app of one's own: which message it is, and the settings.

A Flower app registers one function for training, and its run config is its own. So all kinds of
messages travel as `train`, and a record beside their content says which one each is and on which
settings; the first of a training also brings the tensors that it begins with. Hospitals derive the
terms from these settings and hold their own limits against them, as they do with a run config.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, ConfigRecordValues, Message, RecordDict

from clients.contract.kinds import Kind
from clients.contract.settings import ConfigValue

RECORD, CONFIG = "asclepias", "asclepias-config"
_KIND, _SETTINGS, _INITIAL = "kind", "settings", "initial"


class NotTold(ValueError):
    """A message that no strategy of ours has sent, or that holds something else than it must."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What stands beside a message.

    Attributes:
        kind: of the message.
        settings: of the training, every one.
        initial: the tensors that it begins with, as a frame; ``b""`` in all but the first message.
        config: what the app's own loop is told.
    """

    kind: Kind
    settings: Mapping[str, ConfigValue]
    initial: bytes = b""
    config: Mapping[str, ConfigRecordValues] = field(default_factory=dict)

    def beside(self, content: RecordDict) -> RecordDict:
        """Return a content with this beside it."""
        found = RecordDict(dict(content))
        found[RECORD] = ConfigRecord(
            {
                _KIND: self.kind.value,
                _SETTINGS: json.dumps(dict(self.settings), sort_keys=True),
                _INITIAL: self.initial,
            }
        )
        if self.config:
            found[CONFIG] = ConfigRecord(dict(self.config))
        return found

    @classmethod
    def taken(cls, message: Message) -> Told:
        """Take this from beside a message, whose content is left as it was sent.

        Raises:
            NotTold: it is not there, or not of this form.
        """
        content = message.content if message.has_content() else RecordDict()
        if RECORD not in content:
            raise NotTold("no strategy of asclepias sent this message")
        try:
            record = content.config_records[RECORD]
            settings = json.loads(str(record[_SETTINGS]))
            initial = record[_INITIAL]
            kind = Kind(str(record[_KIND]))
            config = dict(content.config_records[CONFIG]) if CONFIG in content else {}
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise NotTold(f"what stands beside a message cannot be read: {error}") from error
        plain = isinstance(settings, dict) and all(
            isinstance(value, bool | int | float | str) for value in settings.values()
        )
        if not plain or not isinstance(initial, bytes):
            raise NotTold("what stands beside a message is no settings and no tensors")
        rest = {name: one for name, one in content.items() if name not in (RECORD, CONFIG)}
        message.content = RecordDict(rest)
        return cls(kind=kind, settings=settings, initial=initial, config=config)


def digest_of(initial: bytes) -> str:
    """Return the SHA-256 that the terms of a training name its first tensors by, hex."""
    return hashlib.sha256(initial).hexdigest()
