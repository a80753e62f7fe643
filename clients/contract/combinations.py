"""What settings do not go together, and why: each check is a sentence or nothing.

The single values are known to be sound when a check sees them. Which exchange, noise and scheme may
be combined is a table of its own, in ``clients.contract.soundness``.
"""

from collections.abc import Callable, Collection

from accounting.events import hollow_delta
from clients.contract.groups import NEEDED, groups_needed
from clients.contract.model_settings import PRETRAINED
from clients.contract.schedule import schedule_of
from clients.contract.setting_tree import SettingTree
from clients.contract.soundness import check_sound, unsealed_shares


def _noise_given_once(s: SettingTree) -> str | None:
    given = (s.privacy.target_epsilon > 0, s.privacy.noise_multiplier > 0)
    if not s.regime.private or sum(given) == 1:
        return None
    if all(given):
        return (
            f"privacy.target-epsilon = {s.privacy.target_epsilon:g} and privacy.noise-multiplier = "
            f"{s.privacy.noise_multiplier:g} are both set; one follows from the other: "
            "set the one that you do not mean to 0."
        )
    return (
        "privacy.target-epsilon and privacy.noise-multiplier are both 0; a private regime needs "
        "one of them (or choose privacy.regime F or C)."
    )


def _delta_protects(s: SettingTree) -> str | None:
    if not (s.regime.private and s.privacy.target_epsilon):
        return None  # noise that is given is there, whatever is claimed of it
    schedule = schedule_of(s)
    fault = hollow_delta(s.privacy.delta, schedule.sampling_rate, schedule.events)
    return f"privacy.{fault}." if fault else None


def _sum_has_shares(s: SettingTree) -> str | None:
    if s.privacy.regime == "FSCDP" and s.partition.hospitals < 2:
        return (
            "privacy.regime FSCDP shares the noise between hospitals and needs "
            f"partition.hospitals >= 2, not {s.partition.hospitals}; use FPDP."
        )
    return None


def _someone_remains(s: SettingTree) -> str | None:
    lost = s.privacy.dropouts + s.privacy.colluders
    if lost > 0 and lost >= s.partition.hospitals:
        return (
            f"privacy.dropouts + privacy.colluders = {lost} leaves nobody of "
            f"partition.hospitals = {s.partition.hospitals} to add noise; it must be smaller."
        )
    return None


def _one_name_a_hospital(s: SettingTree) -> str | None:
    invited = s.partition.invited
    if not invited or len(set(invited)) == len(invited) == s.partition.hospitals:
        return None
    return (
        f"partition.sites = {s.partition.sites!r} names {len(set(invited))} hospitals, "
        f"partition.hospitals = {s.partition.hospitals}; name as many, each once."
    )


def _shares_add_up(s: SettingTree) -> str | None:
    try:
        shares = s.training.shares
    except ValueError:
        shares = (0.0,)
    if not shares or (min(shares) > 0 and abs(sum(shares) - 1.0) < 0.01):
        return None
    return (
        f"training.class-shares = {s.training.class_shares!r}; it must be positive numbers that "
        "add up to 1, one for each class."
    )


def _judged_on_others(s: SettingTree) -> str | None:
    if not s.data.holdout_from or s.data.holdout_from != s.data.name:
        return None
    return (
        f"data.holdout-from = data.name = {s.data.name!r}: models would be measured on the records "
        "that they learn from; name other public data, or '' to hold a share of the patients out."
    )


def _something_to_balance(s: SettingTree) -> str | None:
    if s.training.balance == "loss" or s.training.class_shares:
        return None
    return (
        f"training.balance = {s.training.balance!r} evens out training.class-shares, of which "
        "there are none; set them to 'learned' or to shares such as '0.26,0.74'."
    )


def _shares_of_sums(s: SettingTree) -> str | None:
    if not s.training.learns_shares or s.exchange.name in ("gradients", "weights"):
        return None
    return (
        f"training.class-shares = 'learned' with exchange.name {s.exchange.name}: they are learnt "
        "from sums that all hospitals open; use gradients or weights, or declare the shares "
        "('0.26,0.74')."
    )


def _average_of_sums(s: SettingTree) -> str | None:
    if not s.training.averaging or s.exchange.name in ("gradients", "weights"):
        return None
    return (
        f"training.averaging = {s.training.averaging:g} with exchange.name {s.exchange.name}: only "
        "hospitals that open every sum can average; use gradients or weights, or averaging 0."
    )


def _whole_model_at_home(s: SettingTree) -> str | None:
    declared = s.training.class_shares and not s.training.learns_shares
    if not (s.training.augmentations or declared) or s.exchange.name != "layers":
        return None
    return (
        "training.augmentations and training.class-shares are for models that learn where the "
        "patients are; with exchange.name layers set them to 0 and ''."
    )


def _met_at_home(s: SettingTree) -> str | None:
    if not s.training.adversarial:
        return None
    if s.exchange.name == "layers" or s.exchange.loop == "app":
        return (
            f"training.adversarial = {s.training.adversarial:g} with exchange.name "
            f"{s.exchange.name} and loop {s.exchange.loop!r}: records are changed against a whole "
            "model that learns by this app's own steps; set it to 0."
        )
    if s.privacy.input_laplace:
        return (
            f"training.adversarial = {s.training.adversarial:g} with privacy.input-laplace = "
            f"{s.privacy.input_laplace:g}: noised values leave the range that changed ones stay "
            "in; set one of them to 0."
        )
    return None


def _net_to_build_on(s: SettingTree) -> str | None:
    model = s.model
    if model.name.startswith(PRETRAINED) or not (
        model.hidden or model.stages or model.tuned_stages or model.side
    ):
        return None
    return (
        f"model.hidden = {model.hidden}, model.stages = {model.stages}, model.tuned-stages = "
        f"{model.tuned_stages} and model.side = {model.side} are for models on a pretrained net; "
        f"set them to 0, or model.name = {model.name!r} to '{PRETRAINED}<name>'."
    )


def _enough_canaries(s: SettingTree) -> str | None:
    if not 0 < s.audit.canaries < LEAST_CANARIES:
        return None
    return (
        f"audit.canaries = {s.audit.canaries} is too few to show anything: expected at least "
        f"{LEAST_CANARIES}, or 0 for as many as fit."
    )


def _shares_hold(s: SettingTree) -> str | None:
    if s.sealing.scheme != "one-time" and not s.sealing.committee and s.sealing.silent_holders < 0:
        return None
    from clients.contract.shares import sharing_fault  # numpy: not where it is not needed

    return sharing_fault(s)


def _own_loop_claims_nothing(s: SettingTree) -> str | None:
    if s.exchange.loop == "ours":
        return None
    if s.regime.private or s.regime.pooled:
        return (
            f"exchange.loop = 'app' with privacy.regime {s.privacy.regime}: nothing bounds what a "
            "patient changes of an app's own training, so noise on it would promise nothing; use "
            "regime F, or exchange.loop 'ours', where each patient's gradient is clipped."
        )
    if s.exchange.name == "weights" and s.exchange.local_steps == 1 and not s.exchange.proximal:
        return None
    return (
        f"exchange.loop = 'app' with exchange.name {s.exchange.name}, local-steps "
        f"{s.exchange.local_steps} and proximal {s.exchange.proximal:g}: the app decides how it "
        "trains; use exchange.name weights, local-steps 1 and proximal 0."
    )


def _groups_are_even(s: SettingTree) -> str | None:
    size, rule = s.exchange.group_size, s.exchange.robust
    if not size:
        if rule == "mean" and s.exchange.liars == 1:
            return None
        return (
            f"exchange.robust = {rule!r} and exchange.liars = {s.exchange.liars} are about sums of "
            "groups; set exchange.group-size, or leave them out."
        )
    if rule == "mean":
        return (
            f"exchange.group-size = {size} opens groups' sums apart, and exchange.robust = 'mean' "
            f"adds them up again: set exchange.robust to one of {', '.join(NEEDED)}."
        )
    count, rest = divmod(s.partition.hospitals, size)
    if rest:
        return (
            f"exchange.group-size = {size} does not divide partition.hospitals = "
            f"{s.partition.hospitals}; groups are all of one size."
        )
    needed = groups_needed(rule, s.exchange.liars)
    if count < needed:
        return (
            f"exchange.group-size = {size} makes {count} groups of {s.partition.hospitals} "
            f"hospitals; {rule} needs {needed} where exchange.liars = {s.exchange.liars} may lie."
        )
    if size == 1 and count - s.privacy.dropouts < needed:
        return (
            f"exchange.group-size = 1 with privacy.dropouts = {s.privacy.dropouts} may leave "
            f"{count - s.privacy.dropouts} updates; {rule} needs {needed} where exchange.liars = "
            f"{s.exchange.liars} may lie."
        )
    return None


def _groups_of_sums(s: SettingTree) -> str | None:
    if not s.exchange.group_size:
        return None
    if s.regime.pooled:
        return (
            f"exchange.group-size = {s.exchange.group_size} with privacy.regime "
            f"{s.privacy.regime}: pooled data are in no groups; set it to 0 and exchange.robust to "
            "'mean'."
        )
    if s.exchange.name in ("gradients", "weights") and s.exchange.loop == "ours":
        return None
    return (
        f"exchange.group-size = {s.exchange.group_size} with exchange.name {s.exchange.name} and "
        f"exchange.loop {s.exchange.loop!r}: groups are of clipped updates that are summed; use "
        "gradients or weights with loop 'ours'."
    )


def _groups_keep_promises(s: SettingTree) -> str | None:
    size, lost = s.exchange.group_size, s.privacy.dropouts + s.privacy.colluders
    if not size:
        return None
    if size == 1:
        if s.sealing.scheme in ("plain", "modular") and s.privacy.regime != "FSCDP":
            return None
        return (
            f"exchange.group-size = 1 with sealing.scheme {s.sealing.scheme} and privacy.regime "
            f"{s.privacy.regime}: every update would be opened by itself; use 2 or more, or "
            "sealing.scheme plain with regime F or FPDP."
        )
    if size <= lost:
        return (
            f"privacy.dropouts + privacy.colluders = {lost} leaves nobody of exchange.group-size = "
            f"{size} to add noise to the group's sum; it must be smaller."
        )
    if s.sealing.scheme == "one-time" and s.privacy.dropouts:
        return (
            f"exchange.group-size = {size} with sealing.scheme one-time and privacy.dropouts = "
            f"{s.privacy.dropouts}: shares of keys are of the sum of all hospitals; use "
            "privacy.dropouts 0, or bfv."
        )
    return None


def _server_rate_is_used(s: SettingTree) -> str | None:
    given = (s.exchange.server_rate, s.exchange.second_decay, s.exchange.adaptivity)
    if s.exchange.optimizer.startswith("fed") or given == (0.1, 0.99, 1e-3):
        return None
    return (
        f"exchange.server-rate, second-decay and adaptivity = {given} are for the optimizers "
        f"fedadagrad, fedadam and fedyogi; leave them out with {s.exchange.optimizer!r}."
    )


#: With fewer made-up patients no bound means anything.
LEAST_CANARIES = 100

_COMBINATIONS: list[tuple[set[str], Callable[[SettingTree], str | None]]] = [
    (
        {"privacy.regime", "privacy.target-epsilon", "privacy.noise-multiplier"},
        _noise_given_once,
    ),
    (
        {
            "privacy.regime",
            "privacy.delta",
            "privacy.target-epsilon",
            "training.sampling-rate",
            "training.rounds",
            "exchange.name",
            "exchange.local-steps",
        },
        _delta_protects,
    ),
    ({"privacy.regime", "sealing.scheme", "run.seed"}, unsealed_shares),
    (
        {
            "sealing.scheme",
            "sealing.committee",
            "sealing.silent-holders",
            "privacy.dropouts",
            "privacy.colluders",
            "privacy.regime",
            "partition.hospitals",
            "partition.sites",
            "exchange.name",
        },
        _shares_hold,
    ),
    ({"audit.canaries"}, _enough_canaries),
    (
        {
            "exchange.loop",
            "exchange.name",
            "exchange.local-steps",
            "exchange.proximal",
            "privacy.regime",
        },
        _own_loop_claims_nothing,
    ),
    (
        {
            "exchange.optimizer",
            "exchange.server-rate",
            "exchange.second-decay",
            "exchange.adaptivity",
        },
        _server_rate_is_used,
    ),
    (
        {
            "exchange.group-size",
            "exchange.robust",
            "exchange.liars",
            "partition.hospitals",
            "privacy.dropouts",
        },
        _groups_are_even,
    ),
    (
        {"exchange.group-size", "exchange.name", "exchange.loop", "privacy.regime"},
        _groups_of_sums,
    ),
    (
        {
            "exchange.group-size",
            "sealing.scheme",
            "privacy.regime",
            "privacy.dropouts",
            "privacy.colluders",
        },
        _groups_keep_promises,
    ),
    (
        {"training.adversarial", "exchange.name", "exchange.loop", "privacy.input-laplace"},
        _met_at_home,
    ),
    (
        {"model.name", "model.hidden", "model.stages", "model.tuned-stages", "model.side"},
        _net_to_build_on,
    ),
    ({"privacy.regime", "partition.hospitals"}, _sum_has_shares),
    ({"privacy.dropouts", "privacy.colluders", "partition.hospitals"}, _someone_remains),
    ({"partition.sites", "partition.hospitals"}, _one_name_a_hospital),
    ({"data.holdout-from", "data.name"}, _judged_on_others),
    ({"training.class-shares"}, _shares_add_up),
    ({"training.class-shares", "exchange.name"}, _shares_of_sums),
    ({"training.class-shares", "training.balance"}, _something_to_balance),
    ({"training.averaging", "exchange.name"}, _average_of_sums),
    (
        {"training.augmentations", "training.class-shares", "exchange.name"},
        _whole_model_at_home,
    ),
]


def combination_faults(settings: SettingTree, *, faulty: Collection[str] = ()) -> list[str]:
    """What does not go together; checks that read a key in ``faulty`` are left out."""
    found = [check(settings) for keys, check in _COMBINATIONS if keys.isdisjoint(faulty)]
    said = unsealed_shares(settings) is not None  # in more words than the table has
    if not faulty and not said:
        found += check_sound(settings)
    return [fault for fault in found if fault]
