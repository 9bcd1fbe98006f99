"""DINOv2 from scratch, in plain torch: from tiles to an encoder."""

from pixcell_share.ssl.architectures import ARCHITECTURES, Architecture
from pixcell_share.ssl.job import SslJob, read_job, write_job
from pixcell_share.ssl.presets import PRESETS, preset
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.sources import SourceSettings
from pixcell_share.ssl.train import SilentView, TrainedEncoder, train_encoder

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "Architecture",
    "SilentView",
    "SourceSettings",
    "SslJob",
    "SslSettings",
    "TrainedEncoder",
    "preset",
    "read_job",
    "train_encoder",
    "write_job",
]
