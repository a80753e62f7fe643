"""Replies that a SuperLink takes and Flower's grid cannot read, or that name another sender."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.superlink.grid.http_grid import HttpGrid

from clients.contract.kinds import Kind
from strategies.one_object_grid import OneObjectGrid
from tests.deployment.real_sites import train
from tests.in_process import FIRST_NODE, NODE_STEP, InProcessGrid, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

HOSTILE, VICTIM = FIRST_NODE + 2 * NODE_STEP, FIRST_NODE

Contents = dict[str, bytes]
Spoil = Callable[[str, Contents], tuple[str, Contents]]


def contents_of(message: Message) -> Contents:
    """A message as it travels: objects by the digest of their content."""
    return {name: one.deflate() for name, one in get_all_nested_objects(message).items()}


def renamed(contents: Contents, changed: Contents) -> tuple[dict[str, str], Contents]:
    """Contents of which some are others: whatever refers to them refers to the new digests."""
    names, made = {}, {}
    for kind in (b"ConfigRecord ", b"RecordDict ", b"Message "):  # from the leaves up
        for name, data in contents.items():
            if data.startswith(kind):
                data = changed.get(name, data)
                for old, new in names.items():
                    data = data.replace(old.encode(), new.encode())
                names[name] = sha256(data).hexdigest()
                made[name] = data
    left = {name: data for name, data in contents.items() if name not in made}
    return names, {**left, **{names[name]: data for name, data in made.items()}}


def no_words(head: str, contents: Contents) -> tuple[str, Contents]:
    """Other bytes in the record of words, every size and digest sound."""
    leaf = next(n for n, data in contents.items() if data.startswith(b"ConfigRecord "))
    start, divider, body = contents[leaf].partition(b"\x00")
    names, made = renamed(contents, {leaf: start + divider + b"\xff" * len(body)})
    return names[head], made


def no_message(head: str, contents: Contents) -> tuple[str, Contents]:
    """A record in the place of the message."""
    leaf = next(n for n, data in contents.items() if data.startswith(b"RecordDict "))
    return leaf, contents


@dataclass
class Link:
    """What of a SuperLink a grid asks when it pulls; it takes what the real one takes."""

    wire: InProcessGrid
    spoil: Spoil
    objects: Contents = field(default_factory=dict)

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        messages, trees = [], []
        for reply in self.wire.pull_messages(list(request.message_ids)):
            reply.metadata.__dict__["_message_id"] = reply.object_id
            head, contents = reply.object_id, contents_of(reply)
            proto = message_to_proto(remove_content_from_message(reply))
            tree = get_object_tree(reply)
            hostile = reply.metadata.src_node_id == HOSTILE
            if hostile and reply.has_content() and reply.metadata.message_type == Kind.TRAIN:
                head, contents = self.spoil(head, contents)
                proto.metadata.message_id = head
                tree.Clear()
                tree.object_id = head
                for name in contents:
                    if name != head:
                        tree.children.add(object_id=name)
            for name, data in contents.items():
                assert sha256(data).hexdigest() == name
                validate_object_content(data)
            self.objects |= contents
            messages.append(proto)
            trees.append(tree)
        return PullAppMessagesResponse(messages_list=messages, message_object_trees=trees)

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:
        content = self.objects[request.object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(
        self, _: ConfirmMessageReceivedRequest
    ) -> ConfirmMessageReceivedResponse:
        return ConfirmMessageReceivedResponse()


class Wire(HttpGrid):
    """Flower's own grid, whose SuperLink is in this process."""

    def __init__(self, inner: InProcessGrid, spoil: Spoil) -> None:
        super().__init__(token="t")
        self.inner = inner
        self._run = inner.run
        self._client: Any = Link(inner, spoil)

    def get_node_ids(self) -> Iterable[int]:
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self.inner.push_messages(messages)


def claims(victim: InProcessGrid) -> Spoil:
    """A reply that says that it is another hospital's answer to what that one was asked."""

    def spoil(head: str, contents: Contents) -> tuple[str, Contents]:
        asked = [one for one in victim.requests if one.metadata.dst_node_id == VICTIM][-1]
        own = next(one for one in victim.replies[::-1] if one.metadata.src_node_id == HOSTILE)
        own.metadata.__dict__["_src_node_id"] = VICTIM
        own.metadata.__dict__["_reply_to_message_id"] = asked.metadata.message_id
        try:
            return own.object_id, contents_of(own)
        finally:
            own.metadata.__dict__["_src_node_id"] = HOSTILE

    return spoil


@pytest.mark.parametrize("spoil", [no_words, no_message, None], ids=["words", "kind", "sender"])
@pytest.mark.parametrize("by_way_of", [HttpGrid, OneObjectGrid], ids=["apart", "as one object"])
def test_a_reply_that_cannot_be_read_is_its_senders_fault_alone(
    tmp_path: Path, by_way_of: type[Grid], spoil: Spoil | None
) -> None:
    """A deployment's own app puts a grid before Flower's, which must not hide it."""
    settings = small_settings(tmp_path / "run", privacy__dropouts=1)
    inner = InProcessGrid(settings.to_config(), 4)
    wire: Grid = Wire(inner, spoil or claims(inner))
    train(settings, OneObjectGrid(wire) if by_way_of is OneObjectGrid else wire)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [one for one in map(json.loads, records) if one["kind"] == "fault"]
    assert {(one["hospital"], one["code"]) for one in lines} == {("hospital-02", "malformed")}
