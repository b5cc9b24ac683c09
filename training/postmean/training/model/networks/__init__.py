"""Networks, one file each. `AnyNetwork` is the table of networks that the commands can name."""

from postmean.training.model.networks.network import Network, NetworkSettings
from postmean.training.model.networks.song import DDPMppNetwork, NCSNppNetwork
from postmean.training.model.networks.unet2d import UNet2DNetwork

AnyNetwork = DDPMppNetwork | NCSNppNetwork | UNet2DNetwork

__all__ = ["AnyNetwork", "DDPMppNetwork", "NCSNppNetwork", "Network", "NetworkSettings", "UNet2DNetwork"]
