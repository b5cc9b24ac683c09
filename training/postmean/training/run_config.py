"""Settings of one training run: a recipe, and its paths and options."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from postmean.base.from_preset import from_preset, named
from postmean.base.places import Place
from postmean.training.config import TrainConfig
from postmean.training.model.losses import EDMLoss, FlowLoss
from postmean.training.model.networks import UNet2DNetwork
from postmean.training.presets import PRESETS
from postmean.training.watching.config import WatchConfig


@dataclass(frozen=True, kw_only=True)
class TrainRunConfig(WatchConfig, TrainConfig):
    """A preset's recipe, and the paths and options of a run."""

    flag_names: ClassVar[dict[str, str]] = {"start_from": "from"}

    targets: str
    """Folder or URL of a run of `postmean generate`."""
    store: Place
    """Image store that the run was generated from: folder or URL."""
    out: Path
    """Folder for checkpoints, metrics.jsonl, event files of TensorBoard and config.json."""
    init: str = ""
    """Checkpoint or run whose averaged weights a new run starts from; empty: random weights."""
    start_from: str = ""
    """RUN@STEP or a checkpoint's folder to go on from with other settings. Weights, average, optimiser and place in the
    stream are the checkpoint's."""
    follow_seconds: float = 0.0
    """If above 0, train while the targets are being generated: longest wait for each shard."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dry_run: bool = False
    """Say what this would take, and write nothing."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        WatchConfig.__post_init__(self)

    @classmethod
    def of(cls, recipe: TrainConfig, **run: Any) -> "TrainRunConfig":
        """A recipe with the paths and options of a run.

        Args:
            run: targets, store, out, and other fields of this class.
        """
        return cls(**recipe_fields(recipe), **run)

    @classmethod
    def preset(cls, name: str, **settings: Any) -> "TrainRunConfig":
        """The settings of a preset of `PRESETS`, such as edm-cifar10.

        >>> paths = dict(targets="targets", store=Path("digits.store"), out=Path("model"))
        >>> TrainRunConfig.preset("edm-digits", steps=100, **paths).batch_size
        256

        Args:
            settings: those without a default, such as the paths, and those to change, by the names of fields or flags.
        Raises:
            ConfigError: no such preset or setting, one is missing or of a wrong type, or two contradict each other.
        """
        return from_preset(cls, recipe_fields(named(PRESETS, name, "train")), settings)

    @property
    def training(self) -> TrainConfig:
        """The recipe alone: what decides the weights."""
        return TrainConfig(**recipe_fields(self))


def recipe_fields(config: TrainConfig) -> dict[str, Any]:
    """The settings of a recipe by name, without those of a run."""
    return {field.name: getattr(config, field.name) for field in fields(TrainConfig)}


def of_this_version(config: dict[str, Any]) -> dict[str, Any]:
    """The config in the config.json of a run, as this version writes it.

    Networks had no kind once, and the loss edm a weight: `velocity` is the loss flow.
    """
    network: dict[str, Any] | None = config.get("network")
    loss: dict[str, Any] | None = config.get("loss")
    if isinstance(network, dict) and "kind" not in network:
        config = config | {"network": {"kind": UNet2DNetwork.kind} | network}
    if isinstance(loss, dict) and loss.get("kind") == EDMLoss.kind and "weight" in loss:
        config = config | {"loss": {"kind": FlowLoss.kind if loss["weight"] == "velocity" else EDMLoss.kind}}
    return config
