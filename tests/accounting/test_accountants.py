"""One contract for every accountant; published numbers and google's library are the oracles."""

import itertools
import math
import os
import random
import subprocess
import sys
import weakref

import dp_accounting
import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.rdp import compute_rdp

from accounting.accountants import ACCOUNTANTS, epsilon
from accounting.errors import AccountingError
from accounting.events import ExactEvent, GaussianEvent, SharedPatientEvent
from accounting.loss_mesh import Mesh
from accounting.privacy_losses import PrivacyLoss
from accounting.prv import epsilon_on_the_way
from accounting.rdp import ORDERS, conversion, rdp_curve, rdp_epsilon

DELTA = 1e-4


def gaussian(sampling_rate, noise_multiplier, count):
    return GaussianEvent(
        sampling_rate=sampling_rate, noise_multiplier=noise_multiplier, count=count
    )


def google(accountant, event, count, delta=DELTA):
    accountant.compose(event, count)
    return accountant.get_epsilon(delta)


def google_sampled(sampling_rate, noise_multiplier):
    return dp_accounting.PoissonSampledDpEvent(
        sampling_rate, dp_accounting.GaussianDpEvent(noise_multiplier)
    )


@pytest.mark.parametrize("name", ACCOUNTANTS)
class TestEveryAccountant:
    def test_nothing_costs_nothing(self, name):
        assert epsilon([], DELTA, name) == 0.0
        assert epsilon([gaussian(0.1, 1.0, 0)], DELTA, name) == 0.0

    def test_no_noise_has_no_epsilon(self, name):
        assert epsilon([gaussian(0.1, 1.0, 5), ExactEvent()], DELTA, name) == math.inf

    def test_order_and_grouping_do_not_matter(self, name):
        one, two = gaussian(0.1, 1.0, 5), gaussian(0.2, 2.0, 3)
        together = epsilon([one, two, one], DELTA, name)
        assert together == pytest.approx(epsilon([two, gaussian(0.1, 1.0, 10)], DELTA, name))

    def test_epsilon_grows_with_rounds_and_sampling_and_falls_with_noise_and_delta(self, name):
        base = epsilon([gaussian(0.1, 1.0, 50)], DELTA, name)
        assert epsilon([gaussian(0.1, 1.0, 100)], DELTA, name) > base
        assert epsilon([gaussian(0.2, 1.0, 50)], DELTA, name) > base
        assert epsilon([gaussian(0.1, 1.5, 50)], DELTA, name) < base
        assert epsilon([gaussian(0.1, 1.0, 50)], 1e-3, name) < base

    @pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0, float("nan")])
    def test_a_delta_out_of_range_is_refused(self, name, delta):
        with pytest.raises(AccountingError, match="delta"):
            epsilon([gaussian(0.1, 1.0, 1)], delta, name)

    @pytest.mark.parametrize(
        ("sampling_rate", "sigma"),
        [
            *[(1e-6, 1e-3), (0.5, 0.02), (1.0, 1e-3), (1.0, 1e6), (0.5, 0.2)],
            # Little privacy loss is a fine grid, which takes PRV seconds.
            *[
                pytest.param(*one, marks=pytest.mark.exhaustive)
                for one in [(1e-4, 1e3), (0.5, 1e4)]
            ],
        ],
    )
    def test_extreme_noise_gives_a_number_or_a_reason(self, name, sampling_rate, sigma):
        try:
            value = epsilon([gaussian(sampling_rate, sigma, 10)], 1e-6, name)
        except AccountingError as error:
            assert name == "prv" and "rdp" in str(error)
        else:
            assert value >= 0.0 and not math.isnan(value)

    def test_a_shared_patient_of_one_hospital_is_an_ordinary_one(self, name):
        alone = SharedPatientEvent(sampling_rate=0.1, noise_multiplier=1.0, hospitals=1, count=20)
        expected = epsilon([gaussian(0.1, 1.0, 20)], DELTA, name)
        assert epsilon([alone], DELTA, name) == pytest.approx(expected, rel=1e-4)


# Columns: classic RDP, Opacus' RDP, PRV, google's RDP (None: not published), google's PLD.
PUBLISHED = {
    "Dopamine, FSCDP": ((100 / 2930, 1.15, 3001), (10.83, 9.852, 8.99, None, 8.98)),
    "31 rounds": ((100 / 2930, 1.15, 31), (1.60, 1.18, None, None, 0.87)),
    "CDP": ((50 / 2931, 1.0, 5800), (9.08, 8.18, None, None, 7.44)),
    "FPDP": ((50 / 293, 2.0, 1250), (19.08, 17.83, None, 18.02, 16.45)),
    "one update": ((100 / 2930, 1.15 / math.sqrt(10), 1), (9.83, 8.61, None, None, 7.30)),
}


@pytest.mark.parametrize("line", PUBLISHED)
def test_published_epsilons_are_met_by_each_library(line):
    (q, sigma, rounds), (classic, rdp, prv, google_rdp, pld) = PUBLISHED[line]
    events = [gaussian(q, sigma, rounds)]
    assert rdp_epsilon(events, DELTA, conversion_name="classic") == pytest.approx(classic, abs=0.02)
    assert epsilon(events, DELTA, "rdp") == pytest.approx(rdp, abs=0.02)
    assert epsilon(events, DELTA, "prv") == pytest.approx(prv or pld, abs=0.025)
    if google_rdp:
        theirs = google(RdpAccountant(), google_sampled(q, sigma), rounds)
        assert theirs == pytest.approx(google_rdp, abs=0.02)
        # Their default orders are coarser than ours, so theirs is the larger.
        assert epsilon(events, DELTA, "rdp") <= theirs + 1e-6


def test_the_line_of_dopamine_is_reproduced_to_a_hundredth():
    events = [gaussian(0.0341297, 1.15, 3001)]
    assert epsilon(events, DELTA, "rdp") == pytest.approx(9.85, abs=0.02)
    assert epsilon(events, DELTA, "prv") == pytest.approx(8.99, abs=0.02)


#: How many configurations are compared: a sample, and all.
CONFIGURATIONS = [8, pytest.param(50, marks=pytest.mark.exhaustive)]


def configurations(count):
    return itertools.islice(_configurations(), count)


def _configurations():
    chosen = random.Random(20260)
    while True:
        q = 10 ** chosen.uniform(-2.5, -0.4)
        sigma = 10 ** chosen.uniform(-0.1, 0.7)
        yield q, sigma, int(10 ** chosen.uniform(0.5, 3)), 10 ** chosen.uniform(-7, -3)


@pytest.mark.parametrize("count", CONFIGURATIONS)
def test_rdp_agrees_with_google_at_whole_orders(count):
    whole = [a for a in ORDERS.tolist() if a == int(a)]
    for q, sigma, rounds, delta in configurations(count):
        curve = rdp_curve(gaussian(q, sigma, rounds), tuple(whole))
        ours = float((curve + conversion(delta, orders=tuple(whole))).min())
        theirs = google(RdpAccountant(whole), google_sampled(q, sigma), rounds, delta)
        assert ours == pytest.approx(theirs, rel=1e-6), (q, sigma, rounds, delta)
        # Fractional orders (where theirs often do not converge) can only improve on that.
        assert epsilon([gaussian(q, sigma, rounds)], delta, "rdp") <= ours


def test_rdp_agrees_with_opacus_at_every_order_its_series_manages():
    for q, sigma in [(100 / 2930, 1.15), (0.3, 5.0), (1e-3, 1.0), (0.1, 1.3), (0.2, 0.8)]:
        theirs = compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=ORDERS.tolist())
        assert rdp_curve(gaussian(q, sigma, 1)) == pytest.approx(theirs, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("count", CONFIGURATIONS)
@pytest.mark.filterwarnings("ignore:Optimal order")
def test_prv_agrees_with_opacus(count):
    """Theirs is within the same error, on a mesh and a domain of its own choice."""
    for q, sigma, rounds, delta in configurations(count):
        accountant = PRVAccountant()
        accountant.history = [(sigma, q, rounds)]
        ours = epsilon([gaussian(q, sigma, rounds)], delta, "prv")
        theirs = accountant.get_epsilon(delta, eps_error=1e-3)
        assert ours == pytest.approx(theirs, rel=4e-3, abs=3e-3), (q, sigma, rounds, delta)


@pytest.mark.parametrize("count", CONFIGURATIONS)
def test_prv_is_an_upper_bound_within_a_percent_of_pld(count):
    for q, sigma, rounds, delta in configurations(count):
        ours = epsilon([gaussian(q, sigma, rounds)], delta, "prv")
        rdp = epsilon([gaussian(q, sigma, rounds)], delta, "rdp")
        theirs = google(
            PLDAccountant(
                value_discretization_interval=4e-3 if rdp > 5 else 2e-4 if rdp < 0.3 else 1e-3
            ),
            google_sampled(q, sigma),
            rounds,
            delta,
        )
        # PLD too is an upper bound, with a discretisation of its own.
        assert ours >= theirs - 0.003 * theirs - 2e-3, (q, sigma, rounds, delta)
        assert ours <= theirs + 0.01 * theirs + 2e-3, (q, sigma, rounds, delta)
        assert ours <= rdp


@pytest.mark.parametrize(
    ("q", "sigma", "planned", "mesh"), [(0.2, 4.27, 60, 2e-4), (0.05, 0.8, 200, 2e-3)]
)
def test_epsilons_on_the_way_are_upper_bounds_within_a_percent_of_pld(q, sigma, planned, mesh):
    for count in (1, 2, planned // 3, planned - 1):
        found = epsilon_on_the_way(gaussian(q, sigma, count), planned, DELTA)
        peer = google(
            PLDAccountant(value_discretization_interval=mesh), google_sampled(q, sigma), count
        )
        assert peer * 0.999 <= found <= peer * 1.01


def test_after_all_that_was_planned_epsilon_is_what_was_calibrated_to_the_bit():
    for count in (60, 61):
        event = gaussian(0.2, 4.27, count)
        assert epsilon_on_the_way(event, 60, DELTA) == epsilon([event], DELTA, "prv")
    always = gaussian(1.0, 4.27, 5)
    assert epsilon_on_the_way(always, 60, DELTA) == epsilon([always], DELTA, "prv")
    assert epsilon_on_the_way(gaussian(1e-6, 4.27, 5), 60, DELTA) == 0.0


def test_more_than_a_mesh_can_hold_is_planned_and_what_happened_is_accounted_all_the_same():
    event = gaussian(0.5, 0.6, 3)
    with pytest.raises(AccountingError):
        epsilon([gaussian(0.5, 0.6, 100_000)], DELTA, "prv")
    assert epsilon_on_the_way(event, 100_000, DELTA) == epsilon([event], DELTA, "prv")


def test_a_patient_of_two_hospitals_costs_what_google_finds():
    q, sigma, rounds = 100 / 2930, 1.15, 3001
    event = SharedPatientEvent(sampling_rate=q, noise_multiplier=sigma, hospitals=2, count=rounds)
    weights = [(1 - q) ** 2, 2 * q * (1 - q), q**2]
    mixture = dp_event.MixtureOfGaussiansDpEvent(sigma, [0, 1, 2], weights)
    theirs = google(PLDAccountant(value_discretization_interval=2e-3), mixture, rounds)
    assert theirs == pytest.approx(22.31, abs=0.02)
    assert theirs - 0.01 <= epsilon([event], DELTA, "prv") <= theirs * 1.003
    assert epsilon([event], DELTA, "rdp") >= theirs


@pytest.mark.parametrize(
    ("hospitals", "q", "sigma", "rounds"), [(3, 0.1, 4.0, 40), (5, 0.02, 2, 9)]
)
def test_a_patient_of_several_hospitals_agrees_with_google(hospitals, q, sigma, rounds):
    event = SharedPatientEvent(
        sampling_rate=q, noise_multiplier=sigma, hospitals=hospitals, count=rounds
    )
    weights = [
        math.comb(hospitals, i) * q**i * (1 - q) ** (hospitals - i) for i in range(hospitals + 1)
    ]
    mixture = dp_event.MixtureOfGaussiansDpEvent(sigma, list(range(hospitals + 1)), weights)
    theirs = google(PLDAccountant(value_discretization_interval=1e-3), mixture, rounds)
    ours = epsilon([event], DELTA, "prv")
    assert theirs * 0.997 <= ours <= theirs * 1.01
    assert epsilon([event], DELTA, "rdp") >= theirs


@pytest.mark.parametrize("name", ACCOUNTANTS)
def test_a_shared_patient_composes_with_other_mechanisms(name):
    events = [
        SharedPatientEvent(sampling_rate=q, noise_multiplier=3.0, hospitals=2, count=5)
        for q in (0.1, 1.0)
    ]
    everything = [*events, gaussian(0.2, 2.0, 5), gaussian(1.0, 9.0, 1)]
    parts = [epsilon([event], DELTA, name) for event in everything]
    assert max(parts) < epsilon(everything, DELTA, name) < sum(parts)


def test_composition_of_different_mechanisms_agrees_with_google():
    events = [gaussian(0.1, 1.5, 30), gaussian(0.03, 0.9, 100), gaussian(1.0, 20.0, 4)]
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for event in events:
        one = google_sampled(event.sampling_rate, event.noise_multiplier)
        accountant.compose(one, event.count)
    theirs = accountant.get_epsilon(DELTA)
    assert theirs * 0.999 <= epsilon(events, DELTA, "prv") <= theirs * 1.01


def test_without_sampling_prv_is_the_exact_gaussian():
    theirs = google(
        PLDAccountant(value_discretization_interval=1e-4), dp_accounting.GaussianDpEvent(3.0), 10
    )
    assert epsilon([gaussian(1.0, 3.0, 10)], DELTA, "prv") == pytest.approx(theirs, abs=1e-3)


def test_a_patient_who_is_hardly_ever_sampled_costs_nothing_beyond_delta():
    assert epsilon([gaussian(1e-7, 1.0, 100)], DELTA, "prv") == 0.0
    assert google(PLDAccountant(), google_sampled(1e-7, 1.0), 100) == 0.0
    # A patient who is sampled more often than delta allows is seen.
    assert epsilon([gaussian(1e-3, 0.5, 100)], DELTA, "prv") > 0.0


def test_a_broken_fractional_series_is_bounded_by_the_next_whole_order():
    for q, sigma in [(1e-4, 20.0), (0.5, 0.3), (0.9, 0.2), (1e-6, 0.5), (0.3, 100.0)]:
        curve = rdp_curve(gaussian(q, sigma, 1))
        finite = curve[np.isfinite(curve)]
        assert (finite >= 0).all()
        slack = 4 * math.exp(-30) / (ORDERS[: len(finite)][1:] - 1) * 20 + 1e-9 * finite[1:]
        assert (np.diff(finite) >= -slack * 100).all()


def test_an_unknown_accountant_or_conversion_names_the_known_ones():
    with pytest.raises(AccountingError, match="rdp, prv"):
        epsilon([], DELTA, "gdp")
    with pytest.raises(AccountingError, match="improved, classic"):
        rdp_epsilon([gaussian(0.1, 1, 1)], DELTA, conversion_name="best")


#: What is done, and which libraries nobody is to wait for.
LIGHT = {
    "the ledger opens": ("import accounting.ledger", {"numpy", "scipy"}),
    "a site checks its limits": (
        "import accounting.renyi_filter as f, accounting.limits, accounting.events as e;"
        "event = e.GaussianEvent(sampling_rate=0.1, noise_multiplier=1.0);"
        "f.RenyiFilter.planned(1e-5, 1.0).epsilon([event])",
        set(),
    ),
    "noise is planned": (
        "from accounting.calibration import noise_multiplier_for as f;"
        "f(target_epsilon=1.0, delta=1e-5, sampling_rate=0.1, rounds=10)",
        {"scipy.stats"},
    ),
}


@pytest.mark.parametrize("what", LIGHT)
def test_what_a_site_does_again_and_again_waits_for_no_heavy_library(what):
    code, more = LIGHT[what]
    heavy = {"torch", "opacus", "flwr"} | more
    asked = f"{code}; import sys; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_an_epsilon_has_the_same_bits_whatever_the_number_of_threads():
    code = (
        "from accounting.events import GaussianEvent, SharedPatientEvent as Shared;"
        "from accounting.accountants import epsilon;"
        "told = dict(sampling_rate=0.2, noise_multiplier=5.14, count=60);"
        "events = GaussianEvent(**told), Shared(**told, hospitals=2);"
        "print([epsilon([e], 1e-4, name) for e in events for name in ('rdp', 'prv')])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2")
    }
    assert len(said) == 1


def test_rounding_that_moves_a_sum_by_many_places_loses_no_mass_around_the_mesh():
    """A patient who is hardly ever sampled, millions of times: each loss rounds to nought."""
    found = [epsilon([gaussian(1.4e-5, 0.25, n * 10**6)], DELTA / 10, "prv") for n in (1, 4, 10)]
    bounds = [epsilon([gaussian(1.4e-5, 0.25, n * 10**6)], DELTA / 10, "rdp") for n in (1, 4, 10)]
    assert all(0.85 * bound < one <= bound for one, bound in zip(found, bounds, strict=True))


def test_a_shared_patient_composes_with_an_answer_that_tells_nearly_all():
    shared = SharedPatientEvent(sampling_rate=0.01, noise_multiplier=5, hospitals=2, count=10)
    alone = epsilon([gaussian(1.0, 0.1, 1)], 1e-5, "prv")
    assert alone < epsilon([shared, gaussian(1.0, 0.1, 1)], 1e-5, "prv") < alone + 1.0


def test_a_patient_of_a_thousand_hospitals_has_an_epsilon():
    event = SharedPatientEvent(sampling_rate=0.01, noise_multiplier=1e4, hospitals=1100, count=10)
    assert 0.0 < epsilon([event], DELTA, "prv") <= epsilon([event], DELTA, "rdp")


def test_whole_numbers_of_events_may_be_floats_and_noise_has_bounds():
    assert epsilon([gaussian(0.1, 2.0, 7.0)], DELTA, "prv") == epsilon(
        [gaussian(0.1, 2.0, 7)], DELTA, "prv"
    )
    for sigma in (1e-200, 1e-155, 1e155):
        with pytest.raises(AccountingError, match="1e-100 to 1e100"):
            gaussian(1.0, sigma, 1)


def test_many_kinds_of_events_are_let_go_one_by_one():
    kept = []

    def parts(mesh):
        for sigma in (5.0, 6.0, 7.0, 8.0):
            one = mesh.spectrum(PrivacyLoss(0.1, sigma, reverse=False))
            kept.append(weakref.ref(one.transform))
            assert sum(reference() is not None for reference in kept) <= 2
            yield one, 3

    mesh = Mesh.covering(5.0, 1e-4, delta_error=DELTA / 1000, epsilon_error=0.01)
    assert mesh.epsilon(parts(mesh), DELTA) > 0.0


def test_what_float64_rounds_off_is_charged_and_refused_where_it_is_all_of_delta():
    event = gaussian(0.01, 1.0, 1000)
    assert epsilon([event], 1e-11, "prv") <= epsilon([event], 1e-11, "rdp")
    with pytest.raises(AccountingError, match="delta 1e-13 in float64 after 1000 events"):
        epsilon([event], 1e-13, "prv")
