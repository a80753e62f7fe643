"""Which of Flower's strategies can be run on sums that nobody opens singly, and as which settings.

FedAvg, FedProx, FedAdagrad, FedAdam and FedYogi start from the mean of all updates. Those that look
at single updates (medians, trimmed means, Krum, Bulyan) have nothing to look at here.
"""

from __future__ import annotations

from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedProx, FedYogi

from clients.contract.settings import ConfigValue

#: Flower's class -> what hospitals do with the opened sum; exactly these classes.
OPTIMIZERS: dict[type[FedAvg], str] = {
    FedAvg: "sgd",
    FedProx: "sgd",
    FedAdagrad: "fedadagrad",
    FedAdam: "fedadam",
    FedYogi: "fedyogi",
}
#: Options that decide who takes part, or what is computed from replies, with Flower's defaults.
_UNUSED = {
    "fraction_train": (1.0, "who is asked is every hospital; who of its patients, sampling_rate"),
    "weighted_by_key": ("num-examples", "a sum has no other weights"),
    "arrayrecord_key": ("arrays", "messages are this strategy's own"),
    "configrecord_key": ("config", "messages are this strategy's own"),
}


def wrapped_settings(
    strategy: FedAvg, learning_rate: float, local_steps: int, own_training: bool
) -> dict[str, ConfigValue]:
    """Return the settings under which hospitals take the step of one of Flower's strategies.

    Args:
        strategy: one of the classes of `OPTIMIZERS`.
        learning_rate: the hospitals' own.
        local_steps: at a hospital in each round.
        own_training: whether the app trains in its own way.

    Raises:
        TypeError: it is of another class.
        ValueError: an option of it would have no effect.
    """
    _check(strategy)
    rate = 1.0 if own_training else learning_rate
    found: dict[str, ConfigValue] = {
        "exchange.optimizer": OPTIMIZERS[type(strategy)],
        "exchange.name": "weights" if own_training or local_steps > 1 else "gradients",
        "exchange.local-steps": local_steps,
        "exchange.loop": "app" if own_training else "ours",
        "training.learning-rate": rate,
        "training.momentum": 0.0,
    }
    if isinstance(strategy, FedAdagrad | FedAdam | FedYogi):
        found |= {
            "exchange.server-rate": float(strategy.eta),
            "exchange.adaptivity": float(strategy.tau),
        }
    if isinstance(strategy, FedAdam | FedYogi):
        found |= {
            "exchange.second-decay": float(strategy.beta_2),
            "training.momentum": float(strategy.beta_1),
        }
    if isinstance(strategy, FedProx) and not own_training:
        if local_steps == 1:
            raise ValueError(
                f"FedProx(proximal_mu={strategy.proximal_mu:g}) with local_steps = 1 pulls to "
                "where a hospital still is: take more steps (regime FPDP or F), or FedAvg"
            )
        found["exchange.proximal"] = float(strategy.proximal_mu)
    return found


def told_to_loops(strategy: FedAvg) -> dict[str, float]:
    """Return what a strategy tells an app's own training by itself: FedProx how hard to pull."""
    return {"proximal-mu": strategy.proximal_mu} if isinstance(strategy, FedProx) else {}


def _check(strategy: FedAvg) -> None:
    """Refuse a strategy that needs single updates, and options that would have no effect."""
    kind = type(strategy)
    if kind not in OPTIMIZERS:
        known = ", ".join(one.__name__ for one in OPTIMIZERS)
        raise TypeError(
            f"SecureFedAvg wraps {known}, found {kind.__name__}: what it computes needs single "
            "updates, or is not known to be a step on their mean, and only sums are opened here"
        )
    for option, (usual, reason) in _UNUSED.items():
        if (value := getattr(strategy, option)) != usual:
            raise ValueError(f"{kind.__name__}({option}={value!r}) has no effect: {reason}")
