"""Which network of ours a released one is, and its weights: Karras et al. 2022 (EDM) and 2024 (EDM2)."""

from dataclasses import dataclass
from typing import Any

import torch

from postmean.base.errors import ConfigError, DataError
from postmean.training.model.networks import (
    ADMNetwork,
    AnyNetwork,
    DDPMppNetwork,
    EDM2Network,
    NCSNppNetwork,
)
from postmean.training.model.networks.network import ImageShape
from postmean.training.network_files import load_weights
from postmean.training.released.snapshot_pickle import StandIn, StoredTensor

_DEEPEST = 8
"""Modules within modules; a damaged file may hold itself."""
_LARGEST = 4096
"""Width, layers or multiple; a damaged file may have any."""
_NOT_OURS = {"augment_dim", "label_dropout", "use_fp16", "sigma_min", "sigma_max", "logvar_channels"}
"""Settings that change no output without augmentation."""
_SONG = {
    DDPMppNetwork: ("positional", "standard", "standard", 1, (1, 1)),
    NCSNppNetwork: ("fourier", "residual", "standard", 2, (1, 3, 3, 1)),
}
_SONG_FIELDS = {
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "channel_mult_noise": 1,
    "resample_filter": (1, 1),
}
_EDM2_FIELDS = {
    "channel_mult_noise": None,
    "channel_mult_emb": None,
    "label_balance": 0.5,
    "concat_balance": 0.5,
    "resample_filter": (1, 1),
    "channels_per_head": 64,
    "res_balance": 0.3,
    "attn_balance": 0.3,
    "clip_act": 256,
}


@dataclass(frozen=True, kw_only=True)
class ReleasedNetwork:
    """A released network as settings of ours."""

    settings: AnyNetwork
    image_shape: ImageShape
    classes: int
    sigma_data: float
    weights: dict[str, StoredTensor]

    @classmethod
    def of(cls, snapshot: dict[str, Any]) -> "ReleasedNetwork":
        """The averaged network of a snapshot.

        Raises:
            DataError: it is no network of EDM or EDM2 with EDM's preconditioning, or not one of those published.
        """
        released = snapshot.get("ema")
        if not isinstance(released, StandIn):
            raise DataError("no network named ema in it: pass a snapshot of EDM or EDM2")
        if released.name not in ("EDMPrecond", "Precond"):
            raise DataError(f"its network is a {released.name}: only those with the preconditioning of EDM are read")
        given = dict(released.part("_init_kwargs"))
        part = "unet" if released.name == "Precond" else "model"
        try:
            side, channels = int(given.pop("img_resolution")), int(given.pop("img_channels"))
            classes, sigma_data = int(given.pop("label_dim", 0)), float(given.pop("sigma_data", 0.5))
            for name in _NOT_OURS:
                given.pop(name, None)
            settings = _edm2(given) if part == "unet" else _edm(given)
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise DataError(f"its settings are not those of EDM or EDM2 ({error!r})") from error
        if given:
            raise DataError(f"its settings {', '.join(sorted(given))} are unknown: only published networks are read")
        model = released.part("_modules").get(part)
        weights = _tensors(model, "", 0)
        weights.pop("map_augment.weight", None)  # without augmentation it adds nothing
        shape = (channels, side, side)
        return cls(settings=settings, image_shape=shape, classes=classes, sigma_data=sigma_data, weights=weights)

    def build(self) -> torch.nn.Module:
        """The network with the released weights as float32; DataError where names or shapes are others."""
        try:
            with torch.device("meta"):  # settings of a damaged file might not fit into memory
                empty = self.settings.build(self.image_shape, self.classes).state_dict()
        except (ConfigError, RuntimeError) as error:
            raise DataError(f"its settings make no network ({str(error).splitlines()[0]})") from error
        expected = {name: tuple(tensor.shape) for name, tensor in empty.items()}
        found = {name: tensor.shape for name, tensor in self.weights.items()}
        if found != expected:
            other = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))[0]
            raise DataError(f"weight {other}: shape {found.get(other)}, expected {expected.get(other)}")
        network = self.settings.build(self.image_shape, self.classes)
        try:
            load_weights(network, {name: tensor.made().float() for name, tensor in self.weights.items()}, "released")
        except ValueError as error:
            raise DataError(f"damaged ({error})") from error
        return network


def _edm(given: dict[str, Any]) -> AnyNetwork:
    """The settings of EDMPrecond, which are taken out of `given`."""
    model = given.pop("model_type", "DhariwalUNet")
    _check(given, {"channel_mult_emb": 4})
    if model == "DhariwalUNet":
        return ADMNetwork(**_sizes(given, ADMNetwork()))
    if model != "SongUNet":
        raise ValueError(f"model_type {model}")
    found = tuple(_plain(given.pop(name, usual)) for name, usual in _SONG_FIELDS.items())
    for kind, features in _SONG.items():
        if found == features:
            return kind(**_sizes(given, kind(channel_mult=(1, 2, 2, 2))))
    raise ValueError(f"neither DDPM++ nor NCSN++: {found}")


def _edm2(given: dict[str, Any]) -> AnyNetwork:
    """The settings of EDM2's Precond, which are taken out of `given`."""
    _check(given, _EDM2_FIELDS)
    return EDM2Network(**_sizes(given, EDM2Network()))


def _check(given: dict[str, Any], published: dict[str, Any]) -> None:
    for name, value in published.items():
        if (other := _plain(given.pop(name, value))) != value:
            raise ValueError(f"{name} is {other}, published {value}")


def _sizes(given: dict[str, Any], usual: AnyNetwork) -> dict[str, Any]:
    """Sizes of a U-Net, taken out of `given`; those that are missing have the usual values."""
    names = {
        "channels": "model_channels",
        "channel_mult": "channel_mult",
        "layers_per_block": "num_blocks",
        "attention_resolutions": "attn_resolutions",
        "dropout": "dropout",
    }
    sizes = {ours: _plain(given.pop(theirs, getattr(usual, ours))) for ours, theirs in names.items()}
    counts = [sizes["channels"], sizes["layers_per_block"], len(sizes["channel_mult"]), *sizes["channel_mult"]]
    if not all(type(count) is int and 0 < count <= _LARGEST for count in counts):
        raise ValueError(f"sizes {sizes}")
    return sizes


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _tensors(module: Any, prefix: str, depth: int) -> dict[str, StoredTensor]:
    """Weights and buffers of a module and those in it, by their names in state dicts."""
    if not isinstance(module, StandIn) or depth > _DEEPEST:
        raise DataError(f"no module {prefix or 'of the network'} where one is expected")
    found = {}
    for kind in ("_parameters", "_buffers"):
        found |= {prefix + name: tensor for name, tensor in module.part(kind).items() if tensor is not None}
    for name, inner in module.part("_modules").items():
        if inner is not None:
            found |= _tensors(inner, f"{prefix}{name}.", depth + 1)
    if not all(isinstance(tensor, StoredTensor) for tensor in found.values()):
        raise DataError(f"a weight of {prefix or 'the network'} is no tensor")
    return found
