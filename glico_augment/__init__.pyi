# The public names and where they live: read by type checkers, and by __init__.py when one is asked for.
from glico_augment.config import FitConfig as FitConfig
from glico_augment.config import SwapConfig as SwapConfig
from glico_augment.errors import DivergenceError as DivergenceError
from glico_augment.errors import FileFormatError as FileFormatError
from glico_augment.fit.progress import FitProgress as FitProgress
from glico_augment.fit.quality import FitQuality as FitQuality
from glico_augment.images.pil import load_image as load_image
from glico_augment.latent.encode import Encoding as Encoding
from glico_augment.losses import FeatureLoss as FeatureLoss
from glico_augment.losses import LaplacianLoss as LaplacianLoss
from glico_augment.losses import PerceptualLoss as PerceptualLoss
from glico_augment.losses import RandomPerceptualLoss as RandomPerceptualLoss
from glico_augment.model.classifier import Classifier as Classifier
from glico_augment.model.codes import SphereCodes as SphereCodes
from glico_augment.model.generator import Generator as Generator
from glico_augment.model.sphere import geodesic_distance as geodesic_distance
from glico_augment.model.sphere import lerp as lerp
from glico_augment.model.sphere import normalize as normalize
from glico_augment.model.sphere import sample_uniform as sample_uniform
from glico_augment.model.sphere import slerp as slerp
from glico_augment.style import LocalStyle as LocalStyle
from glico_augment.swap.augment import GLICOAugment as GLICOAugment
from glico_augment.swap.bank import SyntheticBank as SyntheticBank
from glico_augment.swap.dataset import GLICODataset as GLICODataset
from glico_augment.tasks import SyntheticTasks as SyntheticTasks
from glico_augment.tasks import Task as Task

__version__: str
