"""Frames over a socket: both ends at once, and every way in which a peer can fail."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from crypto.inference.links import MOST_WORDS, FrameLink, LinkError, Refusal


@contextmanager
def ends(patience=5.0):
    one, other = socket.socketpair()
    with FrameLink(one, peer="ada", patience=patience) as link, other:
        yield link, other


def test_both_ends_may_send_more_than_the_sockets_hold():
    one, other = socket.socketpair()
    first, second = os.urandom(1 << 22), os.urandom((1 << 22) + 7)
    with FrameLink(one, peer="b") as left, FrameLink(other, peer="a") as right:
        got = []
        thread = threading.Thread(
            target=lambda: got.append(bytes(right.exchange(second, len(first))))
        )
        thread.start()
        assert bytes(left.exchange(first, len(second))) == second
        thread.join(5)
        assert got == [first]
        assert left.sent == right.received == len(first) + 4


def test_empty_frames_and_words_arrive():
    one, other = socket.socketpair()
    with FrameLink(one, peer="b") as left, FrameLink(other, peer="a") as right:
        left.send(b"")
        assert bytes(right.receive(0)) == b""
        left.say({"ask": "model", "n": 1})
        assert right.hear() == {"ask": "model", "n": 1}


def test_a_frame_of_another_size_ends_the_link_before_it_is_read():
    with ends() as (link, other):
        other.sendall(struct.pack("<I", 1 << 30))
        with pytest.raises(LinkError, match="ada sent a frame of 1073741824 bytes; expected 8"):
            link.receive(8)


def test_a_refusal_in_the_place_of_an_array_is_heard():
    with ends() as (link, other):
        words = b'{"error": "limit", "text": "none is left"}'
        other.sendall(struct.pack("<I", len(words)) + words)
        with pytest.raises(Refusal, match=r"ada refuses \(limit\): none is left") as error:
            link.receive(800)
        assert error.value.reason == "limit"


def test_a_refusal_of_megabytes_is_not_repeated_whole():
    with ends() as (link, other):
        words = b'{"error": "' + b"e" * 9000 + b'", "text": "' + b"t" * 9000 + b'"}'
        other.sendall(struct.pack("<I", len(words)) + words)
        with pytest.raises(Refusal) as error:
            link.hear()
        assert len(str(error.value)) + len(error.value.reason) < 4000


@pytest.mark.parametrize("sent", [b"", b"\x08", struct.pack("<I", 8) + b"half"], ids=range(3))
def test_a_peer_that_goes_is_named(sent):
    with ends() as (link, other):
        other.sendall(sent)
        other.close()
        with pytest.raises(LinkError, match="ada ended the connection"):
            link.receive(8)


def test_a_peer_that_says_nothing_is_not_waited_for_ever():
    with ends(patience=0.1) as (link, _), pytest.raises(LinkError, match=r"silent for 0\.1 s"):
        link.receive(8)


@pytest.mark.parametrize("words", [b"[1]", b"none", b"\xff\xfe", b'"error"', b""], ids=range(5))
def test_what_is_no_message_is_refused(words):
    with ends() as (link, other):
        other.sendall(struct.pack("<I", len(words)) + words)
        with pytest.raises(LinkError, match="no message"):
            link.hear()


def test_a_message_that_is_too_long_is_not_read():
    with ends() as (link, other):
        other.sendall(struct.pack("<I", MOST_WORDS + 1))
        with pytest.raises(LinkError, match="expected"):
            link.hear()


@pytest.mark.parametrize("half", [b"", b"\x05\x00"], ids=["between messages", "within one"])
def test_a_peer_that_has_asked_all_it_wanted_is_no_fault(half):
    one, other = socket.socketpair()
    asking, answering = FrameLink(one, peer="ada"), FrameLink(other, peer="ada")
    asking.say({"ask": 1})
    one.setblocking(True)
    one.sendall(half)
    asking.close()
    questions = answering.questions()
    with answering:
        assert next(questions) == {"ask": 1}
        if half:
            with pytest.raises(LinkError, match="ended the connection"):
                next(questions)
        else:
            assert list(questions) == []
