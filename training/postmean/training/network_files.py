"""The averaged network in a checkpoint: diffusers' own folder `unet/`, or `network/` for any other network.

network/config.json           settings, from which postmean builds it; for a network of the user's own, its name alone
network/weights.safetensors   weights
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from postmean.base.errors import ConfigError, DataError, MismatchError
from postmean.base.extras import needs
from postmean.base.flag_tree import kinds
from postmean.base.json_files import JsonError, parse_json, to_json
from postmean.base.serialise import convert
from postmean.training.model.networks import AnyNetwork, NetworkSettings
from postmean.training.model.networks.modules.diffusers_unet import DiffusersUNet
from postmean.training.model.networks.network import ImageShape
from postmean.training.model.networks.own import settings_of

UNET, NETWORK = "unet", "network"


def write_network(folder: Path, network: nn.Module, settings: NetworkSettings) -> None:
    """Write the network into a checkpoint's folder; OSError or SafetensorError where it cannot."""
    if isinstance(network, DiffusersUNet):
        network.unet.save_pretrained(folder / UNET, safe_serialization=True)
        return
    with needs("train"):
        from safetensors.torch import save_file

    (folder / NETWORK).mkdir()
    (folder / NETWORK / "config.json").write_bytes(to_json(settings))
    save_file(apart(network.state_dict()), folder / NETWORK / "weights.safetensors")


def network_folder(checkpoint: Path) -> Path:
    """The folder of the network in a checkpoint."""
    return checkpoint / (UNET if (checkpoint / UNET).is_dir() else NETWORK)


def weight_files(checkpoint: Path) -> list[Path]:
    """The files with the network's weights: one, or several of a large UNet2DModel."""
    return sorted(network_folder(checkpoint).glob("*.safetensors"))


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The averaged weights by name; DataError where they cannot be read."""
    with needs("train"):
        from safetensors.torch import load_file

    try:
        return {name: value for file in weight_files(checkpoint) for name, value in load_file(file).items()}
    except Exception as error:  # safetensors raises its own kinds
        raise _unreadable(network_folder(checkpoint), error) from error


def read_network(checkpoint: Path, image_shape: ImageShape, classes: int, own: Any = None) -> nn.Module:
    """The averaged network, whose files have been checked.

    Args:
        own: module, function or settings of a network that is not in postmean, as given to `train`.
    Raises:
        ConfigError: such a network is missing or not needed.
        DataError: the files cannot be read.
        MismatchError: the weights are of another network.
    """
    folder = network_folder(checkpoint)
    settings = None if folder.name == UNET else _read_settings(folder)
    if own is not None and not isinstance(settings, str):
        raise ConfigError(f"{checkpoint}: it holds its network itself: leave network= out")
    if isinstance(settings, str) and own is None:
        raise ConfigError(
            f"{checkpoint}: its network is {settings}, which postmean cannot build: pass it as "
            "load_denoiser(checkpoint, network=...), as it was given to train"
        )
    if settings is None:
        return _read_unet(folder)
    network = (settings_of(own) if isinstance(settings, str) else settings).build(image_shape, classes)
    load_weights(network, read_weights(checkpoint), str(checkpoint))
    return network


def load_weights(network: nn.Module, weights: dict[str, torch.Tensor], where: str) -> None:
    """Put the weights of `where` into the network; MismatchError where it is another one."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise MismatchError(f"{where}: another network ({_first(error)}): pass its --network") from error


def apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, each with memory of its own, as safetensors wants them: tied weights are copied."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if storage in seen else tensor.contiguous()
        seen.add(storage)
    return found


def _read_settings(folder: Path) -> NetworkSettings | str:
    """The settings of a network of postmean, or the name of another one."""
    try:
        plain = parse_json((folder / "config.json").read_bytes())
        if plain["kind"] not in kinds(AnyNetwork):
            return str(plain.get("name", plain["kind"]))
        return convert(AnyNetwork, plain, str(folder / "config.json"))
    except ConfigError as error:
        raise DataError(f"{error}") from error
    except (OSError, JsonError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder, error) from error


def _read_unet(folder: Path) -> nn.Module:
    with needs("train"):
        from diffusers.models.unets.unet_2d import UNet2DModel

    try:
        unet = UNet2DModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False)
    except Exception as error:  # whatever diffusers and safetensors raise on damaged files
        raise _unreadable(folder, error) from error
    return DiffusersUNet(unet)


def _unreadable(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder}: cannot be loaded ({error}): take another checkpoint")


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(lines[:2])
