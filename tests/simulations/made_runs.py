"""Run folders made by the writer that trainings use, without a training."""

import math

from clients.contract.settings import Settings
from strategies.run.folder import RunFolder

OBSERVERS = [
    {
        "observer": name,
        "epsilon": epsilon,
        "delta": 1e-4,
        "binds_target": binds,
        "why": why,
        "guaranteed": epsilon is not None,
        "rests_on": "noise and encryption" if name == "server" else "noise" if epsilon else "",
    }
    for name, epsilon, binds, why in [
        ("server", {"rdp": 1.079, "prv": 0.991}, True, "sees sealed vectors it cannot open"),
        ("public after release", {"rdp": 1.079, "prv": 0.991}, True, "sees the released models"),
        ("any one other hospital", {"rdp": 1.14, "prv": 1.05}, False, "knows its own share"),
        ("server + one key holder", {"rdp": 5.21, "prv": 4.44}, False, "opens single updates"),
        ("a curious neighbour", None, False, "no noise: nothing is claimed"),
    ]
]
DOUBT = {
    name: {
        "members": members,
        "temperature": temperature,
        "patients": {"temperature": 38, "sets": 76},
        "ece": {"before": 0.081, "after": 0.034},
        "brier": {"before": 0.121, "after": 0.102},
        "coverage": 0.9,
        "confidence": 0.99,
        "mean_set_size": 1.21,
        "single_class": 0.79,
        "rejection": [
            {"rejected": share / 20, "accuracy": 0.94 + share / 400} for share in range(19)
        ],
    }
    for name, members, temperature in [
        ("predictor", ["model"], 0.62),
        ("iterates", [f"round-{number:06d}" for number in (5, 10)], 0.61),
    ]
}
MERIT = {
    "looked_for": ["benign"],
    "majority": {"class": "benign", "share": 0.6316},
    "uneven": False,
    "one_guess": None,
    "by_class": [
        {
            "class": name,
            "records": records,
            "guessed": guessed,
            "precision": 0.95,
            "recall": 0.94,
            "auc": 0.9912,
            "average_precision": 0.98,
            "sensitivity": 0.93,
            "specificity": 0.95,
            "threshold": 0.51,
        }
        for name, records, guessed in (("malignant", 42, 40), ("benign", 72, 74))
    ],
    "curves": [
        {
            "class": "benign",
            "roc": [[0.0, 0.0], [0.05, 0.93], [1.0, 1.0]],
            "precision_recall": [[0.0, 1.0], [0.93, 0.95], [1.0, 0.63]],
        }
    ],
}
PHASES = {"sample": 0.002, "gradient": 0.02, "noise": 0.004, "seal": 0.01, "add": 0.003}


def start_run(path, rounds=10, **changes):
    settings = Settings.from_config(
        {"training.rounds": rounds, "data.public": True, "run.out": str(path), **changes}
    )
    folder = RunFolder.open(settings)
    folder.record(
        "start",
        scenario=settings.run.scenario,
        training="0123456789abcdef",
        rounds=rounds,
        hospitals=settings.partition.hospitals,
        regime=settings.privacy.regime,
        exchange="gradients",
        scheme="bfv",
        target_epsilon=1.0,
        delta=1e-4,
        noise_multiplier=1.9,
    )
    folder.record("ceremony", seconds=0.4)
    return folder


def run_round(folder, number, *, release=False, closed=True, attempt=1):
    if release:
        accuracy = 0.95 - 0.3 * math.exp(-number / 3)
        folder.record(
            "release",
            round=number,
            accuracy=accuracy,
            auc=accuracy + 0.03,
            balanced_accuracy=accuracy - 0.01,
            loss=1 - accuracy,
            epsilon_rdp=0.341 * math.sqrt(number),
            epsilon_prv=0.313 * math.sqrt(number),
        )
    folder.record(
        "round",
        round=number,
        attempt=attempt,
        contributions=10 if closed else 9,
        closed=closed,
        seconds=0.05,
        uplink_bytes=24_800,
        downlink_bytes=49_000,
        uplink_bytes_total=248_000 * number,
        downlink_bytes_total=490_000 * number,
        epsilon_rdp=0.341 * math.sqrt(number),
        phases=PHASES,
    )


def end_run(folder, rounds=10, *, seeded=False, status="finished", message=""):
    folder.write_json("summary.json", summary(rounds, seeded, status))
    folder.write_json(
        "privacy.json",
        {
            "neighbouring": "add or remove one patient at one hospital",
            "guarantee": "see observers",
            "ledger": [],
            "observers": OBSERVERS,
        },
    )
    folder.write_json(
        "evaluation.json",
        {
            "classes": ["malignant", "benign"],
            "confusion": [[38, 4], [2, 70]],
            "merit": MERIT,
            "calibration": [
                {"low": 0.5, "high": 0.6, "count": 6, "confidence": 0.55, "accuracy": 0.5},
                {"low": 0.7, "high": 0.8, "count": 30, "confidence": 0.76, "accuracy": 0.8},
                {"low": 0.9, "high": 1.0, "count": 78, "confidence": 0.97, "accuracy": 0.99},
            ],
        },
    )
    folder.write_json(
        "split.json",
        {
            "classes": ["malignant", "benign"],
            "hospitals": {f"hospital-{k:02d}": [k * 4, 40 - 3 * k] for k in range(10)},
        },
    )
    folder.write_json("doubt.json", DOUBT)
    folder.record("end", status=status, message=message)


def summary(rounds, seeded=False, status="finished"):
    return {
        "scenario": "default",
        "status": status,
        "data": "breast-cancer",
        "model": "logistic",
        "regime": "FSCDP",
        "exchange": "gradients",
        "scheme": "bfv",
        "hospitals": 10,
        "rounds": rounds,
        "accuracy": 0.9386,
        "auc": 0.9912,
        "metrics": {"accuracy": 0.9386, "auc": 0.9912, "balanced_accuracy": 0.93, "loss": 0.21},
        "mean_hospital_accuracy": 0.91,
        "epsilon": {"rdp": 1.079, "prv": 0.991},
        "delta": 1e-4,
        "noise_multiplier": 1.9,
        "sampling_rate": 0.2,
        "seed": 1 if seeded else None,
        "seeded": seeded,
        "uplink_bytes_per_hospital_round": 24_800,
        "downlink_bytes_per_hospital_round": 49_000,
        "seconds": {"total": 12.3, "round_median": 0.05},
        "versions": {"flwr": "1.41.0", "python": "3.11.7"},
    }


def make_run(path, rounds=10, *, seeded=False, **changes):
    folder = start_run(path, rounds, **changes)
    for number in range(1, rounds + 1):
        run_round(folder, number, release=number % 5 == 0)
    end_run(folder, rounds, seeded=seeded)
    return path
