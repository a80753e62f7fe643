"""A site.toml that is not sound is refused with all that is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.site.site_file import SiteFileError, read_site_file


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('trust-on-first-use = true\n[pins]\na = "SHA256:' + "A" * 43 + '"\n', "beside [pins]"),
        (f'any-app = true\nallowed-apps = ["{"0" * 64}"]\n', "beside a list of allowed-apps"),
        ("[node]\nanswer-every = -1\n", "expected 0 to 300"),
        ("[node]\nanswer-every = 301\n", "expected 0 to 300"),
        ("[node]\nprocesses = 4\nthreads = 2\n", "leave one of them at 1"),
        ("[node]\nprocesses = 0\nthreads = 2\n", "processes = 0"),
    ],
)
def test_a_site_file_that_contradicts_itself_or_waits_too_long_is_refused(
    tmp_path: Path, lines: str, said: str
) -> None:
    file = tmp_path / "site.toml"
    file.write_text(f'hospital = "a"\n{lines}[data]\nname = "x"\n')
    with pytest.raises(SiteFileError) as caught:
        read_site_file(file)
    assert said in str(caught.value)


def test_a_site_file_names_all_its_faults_at_once(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        'hospital = 3\nallowed-apps = ["short"]\n[data]\nnaem = "x"\n[limits]\nmax-epsilon = "1"\n'
        '[pins]\nlyon = "MD5:1"\n[other]\n'
    )
    with pytest.raises(SiteFileError) as caught:
        read_site_file(file)
    text = str(caught.value)
    for part in (
        "hospital = 3",
        "short",
        "naem",
        "max-epsilon = '1'",
        "lyon",
        "[other]",
        "name is",
    ):
        assert part in text, (part, text)


def test_a_limit_without_its_delta_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('hospital = "a"\n[data]\nname = "x"\n[limits]\nmax-epsilon = 1.0\n')
    with pytest.raises(SiteFileError, match="delta"):
        read_site_file(file)
