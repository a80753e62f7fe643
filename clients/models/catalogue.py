"""The table of models, and the one place where they are built, seeded, loaded and checked."""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING

from clients.contract.model_settings import OWN, PRETRAINED, Model
from clients.data.records import Records, readable
from clients.models.architecture import Architecture
from clients.models.errors import ModelError
from clients.tasks.question import SEGMENTATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from clients.contract.settings import Settings
    from clients.data.records import DatasetInfo
    from clients.models.kept_features import Keep
    from clients.models.pretrained import Backbone


MODELS: dict[str, Architecture] = {
    "logistic": Architecture(
        title="logistic regression, started at zero", builder="clients.models.small:logistic"
    ),
    "mlp": Architecture(title="one hidden layer of tanh units", builder="clients.models.small:mlp"),
    "cnn": Architecture(
        title="three group-normalised convolutions",
        builder="clients.models.small:cnn",
        kinds=("image",),
    ),
    "scattering": Architecture(
        title="a linear head on fixed wavelet scattering: cheap, and good at small epsilon",
        builder="clients.models.linear_scattering:scattering",
        kinds=("image",),
        features="clients.models.features:feature_map",
    ),
    "scattering-pyramid": Architecture(
        title="the same on several scales of a large picture, and on its colours",
        builder="clients.models.pyramid:pyramid",
        kinds=("image",),
        features="clients.models.pyramid:feature_map",
    ),
    "squeezenet": Architecture(
        title="SqueezeNet 1.1; takes torchvision's weights from a file",
        builder="clients.models.squeezenet:squeezenet",
        kinds=("image",),
    ),
    "resnet18": Architecture(
        title="ResNet-18 with GroupNorm", builder="clients.models.deep:resnet18", kinds=("image",)
    ),
    "densenet121": Architecture(
        title="MONAI's DenseNet-121 with GroupNorm",
        builder="clients.models.deep:densenet121",
        kinds=("image", "volume"),
    ),
    "cnn3d": Architecture(
        title="three group-normalised convolutions for volumes",
        builder="clients.models.deep:cnn3d",
        kinds=("volume",),
    ),
    "graph": Architecture(
        title="a small graph network on cells of a volume, joined where they touch",
        builder="clients.models.volume_graphs:graph",
        kinds=("volume",),
        features="clients.models.volume_graphs:feature_map",
    ),
    "unet": Architecture(
        title="a small U-Net with GroupNorm: a class for each pixel or voxel",
        builder="clients.models.unet:unet",
        kinds=("image", "volume"),
        dense=True,
    ),
    "gru": Architecture(
        title="a GRU of Opacus' layers, for tables and time series",
        builder="clients.models.recurrent:gru",
        kinds=("table", "series"),
    ),
}


def imports(name: str) -> str:
    """Return the function that ``model.name`` makes a process import; "" for what is built in."""
    return name.removeprefix(PRETRAINED) if ":" in name.removeprefix(PRETRAINED) else ""


def build_model(settings: Settings, info: DatasetInfo, seed: int) -> nn.Module:
    """Return the model that the settings name, the same for the same seed, ready for training.

    The global random state is left as it was found.

    Args:
        settings: reads model.name, model.weights, model.weights-digest and model.freeze.
        info: the data set's public facts.
        seed: of the initial weights; public.

    Returns:
        A module from what `prepare` returns, float32 [batch, *shape], to logits [batch, classes],
        in training mode, with no layer that mixes patients, keeps anything of them, or has
        randomness of its own.

    Raises:
        ModelError: an unknown name, a kind of data it is not for, an unsuited layer, or a file of
            weights that does not fit or is another than the settings say.
    """
    import torch

    from clients.models.own_model import check_loop
    from clients.models.weights import freeze_body, load_weights

    architecture = architecture_of(settings.model)
    if info.own is not None and check_loop(settings, info.own):
        return architecture.build(info)  # what computes on patients is the app's, unseen here
    if architecture.kinds and info.kind not in architecture.kinds:
        raise ModelError(
            f"model {settings.model.name} is for {' and '.join(architecture.kinds)} data; "
            f"{info.name} is a {info.kind} data set",
            code="wrong-kind",
        )
    _check_training(settings, info, architecture)
    with torch.random.fork_rng(devices=[]):
        # Processors' state alone: `torch.manual_seed` would set devices', which nobody sets back,
        # and where there is none it keeps the call, with its stack, for as long as a process lives.
        torch.default_generator.manual_seed(seed)
        module = architecture.build(info)
    public: set[str] = set()
    built_on = settings.model.name.startswith(PRETRAINED)
    if settings.model.weights and not built_on:  # there they are the net's below
        digest = settings.model.weights_digest
        kept = load_weights(module, settings.model.weights, digest)
        public = set(module.state_dict()) - set(kept) if digest else set()
    if settings.model.freeze:
        freeze_body(module)
    module.train()
    _check_ready(module, settings, info, public)
    return module


def is_own_code(name: str) -> bool:
    """Whether a model is somebody's own code; the table's are run on made-up records by tests."""
    return name not in MODELS and not name.startswith(PRETRAINED)


def _check_ready(
    module: nn.Module, settings: Settings, info: DatasetInfo, public: set[str]
) -> None:
    """Refuse a model, or somebody's own loss, that mixes patients."""
    from clients.models.own_model import check_loss, own_task
    from clients.models.readiness import check_private_ready

    check_private_ready(module, info if is_own_code(settings.model.name) else None, public=public)
    own = info.own or own_task(info.question)
    if own is not None:
        check_loss(own, module, input_shape(settings, info), info.input_range)


def _check_training(settings: Settings, info: DatasetInfo, architecture: Architecture) -> None:
    """Refuse ways of training that do not suit the data or the model."""
    from clients.data.records import SPATIAL_KINDS

    training = settings.training
    if training.augmentations:
        if info.kind not in SPATIAL_KINDS:
            raise ModelError(
                f"training.augmentations is for pictures and volumes; {info.name} is a {info.kind}",
                code="wrong-kind",
            )
        if architecture.features:
            raise ModelError(
                f"model {settings.model.name} learns from features that are computed once; "
                "training.augmentations would need them anew each round: set it to 0",
                code="wrong-kind",
            )
    if training.adversarial and architecture.features:
        raise ModelError(
            f"model {settings.model.name} learns from features that are computed once; "
            "training.adversarial changes records against the model: set it to 0, or model.name to "
            "logistic, mlp or cnn",
            code="wrong-kind",
        )
    _check_task(settings, info)
    shares = training.shares
    if shares and len(shares) != len(info.classes):
        raise ModelError(
            f"training.class-shares has {len(shares)} shares; {info.name} has "
            f"{len(info.classes)} classes",
            code="wrong-kind",
        )


def _check_task(settings: Settings, info: DatasetInfo) -> None:
    """Refuse what goes with classes alone, where something else is learnt."""
    if info.own is not None or info.question.of_classes:
        return
    training, asked = settings.training, info.asked or info.task
    faults = {
        "exchange.name = layers": settings.exchange.name == "layers",
        "exchange.vote = majority": settings.exchange.vote == "majority",
        "training.class-shares": bool(training.class_shares),
        "training.augmentations": bool(training.augmentations) and info.task == SEGMENTATION,
    }
    if found := [name for name, used in faults.items() if used]:
        moved = "; masks do not move with pictures" if info.task == SEGMENTATION else ""
        raise ModelError(
            f"{' and '.join(found)}: not for the task {asked!r}, but for records of one class "
            f"each{moved}: leave it out",
            code="wrong-kind",
        )


def architecture_of(model: Model) -> Architecture:
    """Return a row of the table, one on a pretrained net, or the user's own.

    Args:
        model: the settings of the model.

    Raises:
        ModelError: there is none of this name, or its pretrained net cannot be had.
    """
    name = model.name
    if name in MODELS:
        return MODELS[name]
    if name.startswith(PRETRAINED):
        from clients.models.pretrained import Pretrained

        made = Pretrained(
            _backbone(model),
            hidden=model.hidden,
            stages=model.stages,
            tuned=model.tuned_stages,
            side=model.side,
        )
        return made.architecture()
    if name == OWN:
        from clients.models.own_model import build_own

        build = partial(build_own, digest=model.weights_digest)
        return Architecture(title="what an app brings", builder=build, dense=None)
    if ":" in name:
        return Architecture(title=f"your own {name}", builder=name, dense=None)
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = f"{', '.join(sorted(MODELS))}, {PRETRAINED}<name>, package.module:function"
    raise ModelError(f"unknown model {name!r}{hint} Known: {known}", code="unknown-model")


def _backbone(model: Model) -> Backbone:
    from clients.models.pretrained import load_backbone

    return load_backbone(model.name.removeprefix(PRETRAINED), model.weights, model.weights_digest)


def backbone_of(model: Model) -> Mapping[str, torch.Tensor]:
    """Return all tensors of the pretrained net that a model is built on; empty if there is none."""
    return _backbone(model).tensors if model.name.startswith(PRETRAINED) else {}


def prepare(
    settings: Settings, info: DatasetInfo, records: Records, *, keep: Keep | None
) -> Records:
    """Return the records as the model wants them: fixed features if it uses any, else as they are.

    Feature extraction is a public constant function of each row alone.

    Args:
        settings: reads model.name.
        info: public facts of the data set.
        records: as they were read.
        keep: names the folder where features are kept, a hospital's own, or `user_cache` for public
            records; None: memory alone.
    """
    return architecture_of(settings.model).prepared(info, records, keep)


def input_shape(settings: Settings, info: DatasetInfo) -> tuple[int, ...]:
    """Return the shape of one record as the model gets it; found without looking at a record."""
    return architecture_of(settings.model).input_shape(info)


def prepare_public(
    settings: Settings, info: DatasetInfo, records: Records, *, keep: Keep | None
) -> Records:
    """Return public records as the model wants them, behind input noise where that is asked for.

    Those that could not be read are left out.
    """
    from clients.data.noisy_inputs import judged_records

    records = readable(records)
    made = partial(prepare, settings, info, keep=keep)
    return judged_records(settings, info, records, prepare=made)
