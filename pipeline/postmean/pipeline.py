"""The public face of the pipeline: from images to targets.

    from postmean.pipeline import GenerateConfig, ImportConfig, IndexConfig, generate, import_images, index

    import_images(ImportConfig(source=Path("photos"), store=Path("photos.store")))
    index(IndexConfig(store=Path("photos.store")))
    report = generate(GenerateConfig.preset("edm-digits", store=Path("photos.store"), out="photos.targets"))

Each function takes the settings of the command of its name, shows progress unless it is given `progress=False`, and
returns a report. Errors that a user can cause are `PostmeanError`. A name is imported when it is first used: this
module loads neither torch nor Ray. What is not named here may change without notice.
"""

from typing import TYPE_CHECKING

from postmean.base.lazy import exports

if TYPE_CHECKING:
    from postmean.base.errors import ConfigError as ConfigError
    from postmean.base.errors import DataError as DataError
    from postmean.base.errors import EstimatorError as EstimatorError
    from postmean.base.errors import GenerationError as GenerationError
    from postmean.base.errors import MismatchError as MismatchError
    from postmean.base.errors import PostmeanError as PostmeanError
    from postmean.base.errors import ShardError as ShardError
    from postmean.base.errors import StorageError as StorageError
    from postmean.base.errors import VerificationError as VerificationError
    from postmean.base.flags import with_flags as with_flags
    from postmean.base.progress import Progress as Progress
    from postmean.contract.image_store import ImageStore as ImageStore
    from postmean.contract.image_store import StoreWriter as StoreWriter
    from postmean.contract.image_store import to_pixels as to_pixels
    from postmean.contract.image_store import to_unit as to_unit
    from postmean.contract.noise import CTNoise as CTNoise
    from postmean.contract.noise import ECTNoise as ECTNoise
    from postmean.contract.noise import FloorNoise as FloorNoise
    from postmean.contract.noise import ICTNoise as ICTNoise
    from postmean.contract.noise import LogitNormalTimeNoise as LogitNormalTimeNoise
    from postmean.contract.noise import LogNormalNoise as LogNormalNoise
    from postmean.contract.noise import MeanFlowNoise as MeanFlowNoise
    from postmean.contract.noise import UniformTimeNoise as UniformTimeNoise
    from postmean.contract.presets import PRESETS as PRESETS
    from postmean.contract.presets import TargetPreset as TargetPreset
    from postmean.contract.process import EDMProcess as EDMProcess
    from postmean.contract.process import FlowMatchingProcess as FlowMatchingProcess
    from postmean.contract.process import TableProcess as TableProcess
    from postmean.contract.process import VPProcess as VPProcess
    from postmean.contract.recipe import TargetRecipe as TargetRecipe
    from postmean.contract.score import score as score
    from postmean.contract.score import velocity as velocity
    from postmean.contract.settings import EstimatorSettings as EstimatorSettings
    from postmean.contract.settings import ShardSettings as ShardSettings
    from postmean.engine.population import Population as Population
    from postmean.estimators.choose import make_estimator as make_estimator
    from postmean.estimators.estimate import Estimate as Estimate
    from postmean.estimators.estimate import Queries as Queries
    from postmean.estimators.posterior_mean import Posterior as Posterior
    from postmean.estimators.posterior_mean import PosteriorMean as PosteriorMean
    from postmean.estimators.traits import EstimatorTraits as EstimatorTraits
    from postmean.fleet.settings import ActorSettings as ActorSettings
    from postmean.fleet.settings import FleetSettings as FleetSettings
    from postmean.importers.config import ImportConfig as ImportConfig
    from postmean.importers.report import ImportReport as ImportReport
    from postmean.importers.run import import_images as import_images
    from postmean.importers.survey import SourceSurvey as SourceSurvey
    from postmean.importers.survey import survey_source as survey_source
    from postmean.planning.config import MachineSettings as MachineSettings
    from postmean.planning.config import PlanConfig as PlanConfig
    from postmean.planning.config import SampleSettings as SampleSettings
    from postmean.planning.cost import CostPlan as CostPlan
    from postmean.planning.plan import plan as plan
    from postmean.runs.config import FollowSettings as FollowSettings
    from postmean.runs.config import GenerateConfig as GenerateConfig
    from postmean.runs.config import ServeConfig as ServeConfig
    from postmean.runs.config import VerifyConfig as VerifyConfig
    from postmean.runs.generate import GenerateReport as GenerateReport
    from postmean.runs.generate import generate as generate
    from postmean.runs.index import IndexReport as IndexReport
    from postmean.runs.index import index as index
    from postmean.runs.index_config import IndexConfig as IndexConfig
    from postmean.runs.live import ServeReport as ServeReport
    from postmean.runs.live import serve as serve
    from postmean.runs.verify import VerifyReport as VerifyReport
    from postmean.runs.verify import verify as verify

if not TYPE_CHECKING:  # else any name would seem to be there
    __getattr__, __dir__, __all__ = exports(__name__)
