"""The public face of the trainer: targets as batches, training, samples, scores.

    from postmean.training import TargetStream

    with TargetStream.open("targets", "digits.store", batch_size=128) as stream:
        for batch in stream:
            ...

A trainer needs neither Ray nor FAISS. A name is imported when it is first used: importing this module loads no torch.
What is not named here may change without notice.
"""

from typing import TYPE_CHECKING

from postmean.base.lazy import exports

if TYPE_CHECKING:
    from postmean.contract.recipe import TargetRecipe as TargetRecipe
    from postmean.contract.score import score as score
    from postmean.contract.score import velocity as velocity
    from postmean.training.checkpoint import load_denoiser as load_denoiser
    from postmean.training.config import TrainConfig as TrainConfig
    from postmean.training.dial import Dial as Dial
    from postmean.training.dry_run import DryRunReport as DryRunReport
    from postmean.training.dry_run import dry_run as dry_run
    from postmean.training.evaluate import evaluate as evaluate
    from postmean.training.loop import TrainReport as TrainReport
    from postmean.training.loop import train as train
    from postmean.training.model.ema import ConstantEMA as ConstantEMA
    from postmean.training.model.ema import HalfLifeEMA as HalfLifeEMA
    from postmean.training.model.ema import PowerEMA as PowerEMA
    from postmean.training.model.losses import ECTLoss as ECTLoss
    from postmean.training.model.losses import EDMLoss as EDMLoss
    from postmean.training.model.losses import ICTLoss as ICTLoss
    from postmean.training.model.losses import Loss as Loss
    from postmean.training.model.networks import ADMNetwork as ADMNetwork
    from postmean.training.model.networks import DDPMppNetwork as DDPMppNetwork
    from postmean.training.model.networks import EDM2Network as EDM2Network
    from postmean.training.model.networks import NCSNppNetwork as NCSNppNetwork
    from postmean.training.model.networks import Network as Network
    from postmean.training.model.networks import NetworkSettings as NetworkSettings
    from postmean.training.model.networks import UNet2DNetwork as UNet2DNetwork
    from postmean.training.model.preconditioning import Denoiser as Denoiser
    from postmean.training.model.preconditionings import CMPreconditioning as CMPreconditioning
    from postmean.training.model.preconditionings import EDMPreconditioning as EDMPreconditioning
    from postmean.training.model.preconditionings import FlowPreconditioning as FlowPreconditioning
    from postmean.training.model.preconditionings import TrigFlowPreconditioning as TrigFlowPreconditioning
    from postmean.training.optimiser import Optimiser as Optimiser
    from postmean.training.optimiser import OptimiserConfig as OptimiserConfig
    from postmean.training.presets import PRESETS as PRESETS
    from postmean.training.released.config import ImportWeightsConfig as ImportWeightsConfig
    from postmean.training.released.import_weights import ImportWeightsReport as ImportWeightsReport
    from postmean.training.released.import_weights import import_weights as import_weights
    from postmean.training.run_config import TrainRunConfig as TrainRunConfig
    from postmean.training.sample import SampleReport as SampleReport
    from postmean.training.sample import sample as sample
    from postmean.training.sample_config import EvaluateConfig as EvaluateConfig
    from postmean.training.sample_config import SampleConfig as SampleConfig
    from postmean.training.schedules import ConstantSchedule as ConstantSchedule
    from postmean.training.schedules import CosineSchedule as CosineSchedule
    from postmean.training.schedules import InverseSqrtSchedule as InverseSqrtSchedule
    from postmean.training.schedules import Schedule as Schedule
    from postmean.training.scores import Scores as Scores
    from postmean.training.stop_signals import TrainingStopped as TrainingStopped
    from postmean.training.stream.batch import TargetBatch as TargetBatch
    from postmean.training.stream.stream import TargetStream as TargetStream
    from postmean.training.train_log import TrainingError as TrainingError
    from postmean.training.watching.metrics import Metric as Metric

if not TYPE_CHECKING:  # else any name would seem to be there
    __getattr__, __dir__, __all__ = exports(__name__)
