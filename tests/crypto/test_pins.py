"""The first key seen for a name is pinned; another key for that name is refused from then on."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from crypto.ceremony import Offer, check_offers, make_offer
from crypto.errors import PinMismatchError, SignatureError
from crypto.identity import Identity, fingerprint
from crypto.pins import FirstUse

LYON, TURIN, BERLIN, OTHER = (Identity(bytes([number]) * 32) for number in range(4))


def _offers(**identities: Identity) -> list[Offer]:
    return [make_offer("t", name, identity)[0] for name, identity in identities.items()]


def _first_use(folder: Path) -> FirstUse:
    return FirstUse(folder / "first-use.json", {"lyon": fingerprint(LYON.public)})


def test_another_key_is_refused_for_a_name_that_was_seen_even_by_a_new_process(
    tmp_path: Path,
) -> None:
    check_offers(_offers(lyon=LYON, turin=TURIN), _first_use(tmp_path))
    check_offers(_offers(lyon=LYON, turin=TURIN, berlin=BERLIN), _first_use(tmp_path))
    with pytest.raises(PinMismatchError, match="'turin' shows SHA256"):
        check_offers(_offers(lyon=LYON, turin=OTHER), _first_use(tmp_path))
    check_offers(_offers(lyon=LYON, turin=TURIN), _first_use(tmp_path))


def test_the_hospitals_own_name_is_never_anothers(tmp_path: Path) -> None:
    with pytest.raises(PinMismatchError, match="'lyon'"):
        check_offers(_offers(lyon=OTHER, turin=TURIN), _first_use(tmp_path))
    check_offers(_offers(lyon=LYON, turin=TURIN), _first_use(tmp_path))


def test_nothing_is_pinned_of_offers_that_are_not_all_signed(tmp_path: Path) -> None:
    lyon, turin = _offers(lyon=LYON, turin=TURIN)
    forged = Offer(
        training=turin.training,
        name="berlin",
        identity=BERLIN.public,
        ephemeral=turin.ephemeral,
        commitment=turin.commitment,
        public=turin.public,
        signature=turin.signature,
    )
    with pytest.raises(SignatureError):
        check_offers([lyon, turin, forged], _first_use(tmp_path))
    assert not (tmp_path / "first-use.json").exists()


def test_only_the_owner_can_read_the_pins(tmp_path: Path) -> None:
    check_offers(_offers(lyon=LYON, turin=TURIN), _first_use(tmp_path))
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("text", ["", "[]", '{"turin": 3}', '{"turin'])
def test_damaged_pins_trust_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "first-use.json").write_text(text)
    with pytest.raises(PinMismatchError, match="damaged"):
        check_offers(_offers(lyon=LYON, turin=TURIN), _first_use(tmp_path))


def _pin(path: Path, number: int) -> None:
    FirstUse(path, {}).of({f"hospital-{number}": f"key-{number}"})


def test_processes_that_pin_at_once_forget_nothing(tmp_path: Path) -> None:
    path = tmp_path / "first-use.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_pin, args=(path, number)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert len(FirstUse(path, {}).of({})) == 8
