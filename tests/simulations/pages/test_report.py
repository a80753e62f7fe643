"""The report is one page that answers on its own, from files alone."""

import json
import re
from html.parser import HTMLParser

import pytest

from simulations.cli import main
from simulations.pages.report import (
    answer_good,
    answer_private,
    answer_whom,
    render_report,
)
from strategies.run.folder import RunFolder
from strategies.run.reading import read_run
from tests.simulations.made_runs import OBSERVERS, end_run, make_run, run_round, start_run, summary

VOID = {"meta", "link", "br", "img", "hr"}


class Page(HTMLParser):
    """Collects what the claims below are about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for key, value in attrs if key == "id"]
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def set_summary(path, **changes):
    RunFolder(path).write_json("summary.json", summary(10) | changes)
    return read_run(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(make_run(tmp_path_factory.mktemp("made") / "run"))


@pytest.fixture(scope="module")
def html(run):
    return render_report(run)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_is_well_formed(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_the_page_needs_no_network_and_no_other_file(page, html):
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "<script" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html


def test_references_inside_figures_lead_somewhere(page):
    wanted = {link[1:] for link in page.links if link.startswith("#")}
    assert wanted <= set(page.ids)


def test_the_page_answers_the_four_questions(page):
    for part in (
        "Yes: epsilon 0.991 (PRV) or 1.08 (RDP) at delta 0.0001",
        "Server, public after release",
        "server + one key holder (4.44)",
        "Accuracy 0.939, AUC 0.991",
        "12.3 s, 7.38 MB in all",
    ):
        assert part in page.text


def test_the_page_carries_observers_settings_versions_and_figures(page):
    for one in OBSERVERS:
        assert one["observer"] in page.text
    for part in ("training.sampling-rate", "flwr 1.41.0", "epsilon 1.08", "Confusion"):
        assert part in page.text.replace("epsilon (RDP) 1.08", "epsilon 1.08")
    assert "figure-training" in page.ids


def test_the_page_says_whose_claims_take_encryption_to_hold(page):
    assert "Of server: for as long as the encryption holds" in page.text
    assert "All other claims rest on noise alone" in page.text


def test_the_exact_command_is_shown_where_it_is_known(tmp_path):
    from simulations.launch import write_provenance

    path = start_run(tmp_path / "run").path
    write_provenance(path, ["flower-simulation", "run", "default", "--set", "data.dir=/a b"])
    assert "'data.dir=/a b'" in Page(render_report(read_run(path))).text


def test_what_would_tell_of_single_hospitals_is_left_out_with_the_reason(tmp_path, page):
    folder = start_run(tmp_path / "run", **{"data.public": False})
    folder.record("round", round=1, phases={})
    text = Page(render_report(read_run(folder.path))).text
    assert "Left out, since the data are not declared public: Patients' records per hos" in text
    assert "Phases of a round" in text
    assert "Left out" not in page.text


def test_a_seeded_run_is_called_not_private(tmp_path):
    run = read_run(make_run(tmp_path / "run", seeded=True))
    assert answer_private(run).headline == "No: the run was seeded."
    assert answer_whom(run).headline == "Nobody."


def test_a_run_of_given_noise_is_held_to_no_target_and_still_protects(tmp_path):
    path = make_run(tmp_path / "run")
    told = json.loads((path / "privacy.json").read_text())
    for row in told["observers"]:
        row["binds_target"] = False
    RunFolder(path).write_json("privacy.json", told | {"target_epsilon": 0.0})
    answer = answer_whom(read_run(path))
    assert answer.headline == "No target was set: against each by its own epsilon."
    assert "server (0.991)" in answer.lines[0] and "a curious neighbour (none)" in answer.lines[0]
    RunFolder(path).write_json("privacy.json", told | {"target_epsilon": 1.0})
    assert answer_whom(read_run(path)).headline == "Nobody."


def test_a_run_without_noise_is_called_not_private(tmp_path):
    run = set_summary(make_run(tmp_path / "run"), epsilon=None, delta=None)
    assert answer_private(run).headline == "No: no noise was added."
    assert answer_whom(run).headline == "Nobody."


def test_a_running_run_claims_nothing_yet(tmp_path):
    folder = start_run(tmp_path / "run")
    run_round(folder, 1)
    run = read_run(folder.path)
    assert answer_private(run).headline.startswith("Not known")
    assert answer_good(run).headline.startswith("Not known")
    page = Page(render_report(run))
    assert "still running" in page.text
    assert "No ledger" in page.text


def test_a_stopped_run_says_why_and_lists_its_faults(tmp_path):
    folder = start_run(tmp_path / "run")
    folder.record("fault", round=2, attempt=1, hospital="hospital-04", code="no-answer")
    end_run(folder, 1, status="stopped", message="round 2 closed with 9 of 10 hospitals")
    page = Page(render_report(read_run(folder.path)))
    for part in ("stopped: round 2 closed with 9", "hospital-04", "no-answer"):
        assert part in page.text


def test_text_from_files_is_escaped(tmp_path):
    folder = start_run(tmp_path / "run")
    end_run(folder, 1, status="stopped", message="<script>alert(1)</script>")
    assert "<script>" not in render_report(read_run(folder.path))


def test_the_ledger_is_on_the_page(tmp_path):
    from accounting.events import GaussianEvent
    from accounting.ledger import Ledger

    path = start_run(tmp_path / "run").path
    event = GaussianEvent(sampling_rate=0.2, noise_multiplier=1.9)
    with Ledger(path / "ledger.jsonl", site="server", cohort="c", durable=False) as ledger:
        ledger.spend(event, training="t1", round=1, attempt=1, purpose="gradient")
    text = Page(render_report(read_run(path))).text
    assert "1 of gaussian, q 0.2, sigma 1.9 (gradient)" in text


def test_the_command_writes_the_page_and_names_it(run, html, capsys):
    assert main(["report", str(run.path)]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    assert (run.path / "report.html").read_text() == html
