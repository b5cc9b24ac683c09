"""Networks, one file each. `AnyNetwork` is the table of networks that the commands can name."""

from postmean.training.model.networks.adm import ADMNetwork
from postmean.training.model.networks.edm2 import EDM2Network
from postmean.training.model.networks.network import Network, NetworkSettings
from postmean.training.model.networks.song import DDPMppNetwork, NCSNppNetwork
from postmean.training.model.networks.unet2d import UNet2DNetwork

AnyNetwork = DDPMppNetwork | NCSNppNetwork | ADMNetwork | EDM2Network | UNet2DNetwork

__all__ = [
    "ADMNetwork",
    "AnyNetwork",
    "DDPMppNetwork",
    "EDM2Network",
    "NCSNppNetwork",
    "Network",
    "NetworkSettings",
    "UNet2DNetwork",
]
