"""Figures are drawn from a run's files alone, whatever part of them is there."""

import os
import re
import signal

import pytest
from matplotlib.text import Text

from simulations.cli import main
from simulations.pages.drawing import CYCLE, inline_figures, write_figures
from simulations.pages.figures import DRAWINGS, draw_all, draw_figures
from strategies.run.reading import read_run
from tests.simulations.made_runs import end_run, make_run, run_round, start_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(make_run(tmp_path_factory.mktemp("made") / "run"))


def test_a_whole_run_has_every_figure_but_what_it_did_not_measure(run):
    assert set(draw_all(run)) == set(DRAWINGS) - {"hospitals"}


def test_figures_are_written_as_svg_and_png_the_same_each_time_and_named(run, capsys):
    files = draw_figures(run)
    assert {file.suffix for file in files} == {".svg", ".png"}
    assert len(files) == 2 * (len(DRAWINGS) - 1)
    for file in files:
        head = file.read_bytes()[:200]
        assert head.startswith(b"\x89PNG") or b"<?xml" in head
    first = {file: file.read_bytes() for file in files if file.suffix == ".svg"}
    assert main(["figures", str(run.path)]) == 0
    assert {file: file.read_bytes() for file in first} == first
    named = capsys.readouterr().out.replace("\n", "")
    assert all(file.name in named for file in files)


def test_every_axis_of_numbers_has_a_label(run):
    for name, (_, figure) in draw_all(run).items():
        for axes in figure.axes:
            shared_x = axes.get_xlabel() or any(o.get_xlabel() for o in figure.axes)
            assert shared_x, name
            texts = [label.get_text() for label in axes.get_yticklabels()]
            numeric = all(not re.search("[A-Za-z]", text) for text in texts)
            assert axes.get_ylabel() or not numeric, name


def test_every_axis_of_numbers_names_its_unit_and_every_figure_has_a_caption(run):
    units = r"share|round|epsilon|records|milliseconds|megabytes|guess|truth|^$"
    for name, (drawing, figure) in draw_all(run).items():
        assert drawing.caption.endswith(".") and len(drawing.caption) > 40, name
        for axes in figure.axes:
            for label in (axes.get_xlabel(), axes.get_ylabel()):
                assert re.search(units, label), (name, label)


def test_text_is_legible_when_a_figure_has_half_a_page(run):
    """Two figures side by side on A4 with 14 mm margins have 89 mm each."""
    for name, (_, figure) in draw_all(run).items():
        scale = min(1.0, 89 / 25.4 / figure.get_figwidth())
        for text in figure.findobj(Text):
            if text.get_text():
                assert text.get_fontsize() * scale >= 6.0, (name, text.get_text())


def test_a_run_that_has_not_released_anything_has_no_curve(tmp_path):
    folder = start_run(tmp_path / "run")
    assert draw_all(read_run(folder.path)) == {}
    run_round(folder, 1)
    assert set(draw_all(read_run(folder.path))) == {"budget", "phases", "bytes"}


def test_a_run_without_noise_has_no_budget(tmp_path):
    folder = start_run(tmp_path / "run", **{"privacy.regime": "F"})
    folder.record("release", round=1, accuracy=0.9, auc=None)
    folder.record("round", round=1, epsilon_rdp=None, phases={})
    assert set(draw_all(read_run(folder.path))) == {"training"}


def test_accuracy_of_hospitals_is_drawn_where_it_was_declared_public(tmp_path):
    folder = start_run(tmp_path / "run")
    end_run(folder)
    content = read_run(folder.path).summary | {"hospital_accuracy": {"a": 0.9, "b": 0.8}}
    folder.write_json("summary.json", content)
    assert "hospitals" in draw_all(read_run(folder.path))


def test_colours_are_told_apart_by_their_lightness_or_hue_in_colour_blindness():
    # Viénot, Brettel and Mollon 1999: the projection that a deuteranope sees, linear RGB.
    def seen(code):
        r, g, b = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return (0.29275 * r + 0.70725 * g, 0.29275 * r + 0.70725 * g, -0.02234 * r + 1.02234 * b)

    first = [seen(code) for code in CYCLE[:5]]
    for i, one in enumerate(first):
        for other in first[:i]:
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.2


def _written(run, folder):
    """Every figure as its file has it, and as a page would hold it."""
    drawn = draw_all(run)
    written = write_figures(drawn, folder)
    inline = [one["svg"] for one in inline_figures(drawn)]
    return [path.name for path in written], [path.read_bytes() for path in written], inline


def test_a_copy_of_the_process_writes_half_of_the_figures_the_same_ones(run, tmp_path, monkeypatch):
    forked, real = [], os.fork
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(os, "fork", lambda: forked.append(real()) or forked[-1])
    shared = _written(run, tmp_path / "shared")
    assert len(forked) == 1 and forked[0] > 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert shared == _written(run, tmp_path / "alone") and len(forked) == 1

    def no_memory():
        if (child := real()) == 0:
            os._exit(9)
        return child

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(os, "fork", no_memory)
    assert shared == _written(run, tmp_path / "again")

    def never_ends():
        if (child := real()) == 0:
            signal.pause()
        forked.append(child)
        return child

    monkeypatch.setattr("simulations.pages.drawing.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("simulations.pages.drawing.PATIENCE_TIMES", 0.0)
    monkeypatch.setattr(os, "fork", never_ends)
    assert shared == _written(run, tmp_path / "over")
    with pytest.raises(ChildProcessError):
        os.waitpid(forked[-1], os.WNOHANG)
