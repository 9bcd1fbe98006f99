"""How good encoders and cohorts are: Thunder's protocols, Fréchet distances, similarity."""

from pixcell_share.evaluation.compare import Comparison, are_pairs, compare, open_pictures
from pixcell_share.evaluation.embedded import Embedded, EmbeddedDataset, FewShot
from pixcell_share.evaluation.embedding_files import (
    read_embedding_file,
    read_thunder_embeddings,
    write_thunder_part,
)
from pixcell_share.evaluation.evaluate import evaluate
from pixcell_share.evaluation.extract import ExtractionSettings, embed_dataset, embed_pictures
from pixcell_share.evaluation.federated_probe import (
    Probe,
    ProbeSettings,
    ProbeStep,
    judge_probe,
    train_step,
)
from pixcell_share.evaluation.frechet import frechet_distance
from pixcell_share.evaluation.image_folder import Division, read_image_folder
from pixcell_share.evaluation.images import (
    ImageDataset,
    ImagePart,
    PictureArray,
    PictureFiles,
    Pictures,
)
from pixcell_share.evaluation.inception import InceptionEncoder
from pixcell_share.evaluation.knn import (
    KS,
    balanced_accuracy_by_patient,
    choose_k,
    knn_predict,
)
from pixcell_share.evaluation.linear_probe import LinearProbeSettings
from pixcell_share.evaluation.metrics import METRICS, balanced_accuracy, estimates, macro_f1
from pixcell_share.evaluation.named_datasets import PAPER_DATASETS, read_named_dataset
from pixcell_share.evaluation.open_dataset import open_dataset
from pixcell_share.evaluation.protocols import TASKS, Outcome, run_task
from pixcell_share.evaluation.result import EvaluationResult
from pixcell_share.evaluation.site_tiles import (
    CountFloor,
    SiteFigures,
    SiteTiles,
    judge_encoder,
)
from pixcell_share.evaluation.summary import difference, mean_over_datasets
from pixcell_share.evaluation.thunder_model import export_thunder_model
from pixcell_share.evaluation.thunder_split import read_thunder_split
from pixcell_share.evaluation.utility import Utility, cohort_utility

__all__ = [
    "KS",
    "METRICS",
    "PAPER_DATASETS",
    "TASKS",
    "Comparison",
    "CountFloor",
    "Division",
    "Embedded",
    "EmbeddedDataset",
    "EvaluationResult",
    "ExtractionSettings",
    "FewShot",
    "ImageDataset",
    "ImagePart",
    "InceptionEncoder",
    "LinearProbeSettings",
    "Outcome",
    "PictureArray",
    "PictureFiles",
    "Pictures",
    "Probe",
    "ProbeSettings",
    "ProbeStep",
    "SiteFigures",
    "SiteTiles",
    "Utility",
    "are_pairs",
    "balanced_accuracy",
    "balanced_accuracy_by_patient",
    "choose_k",
    "cohort_utility",
    "compare",
    "difference",
    "embed_dataset",
    "embed_pictures",
    "estimates",
    "evaluate",
    "export_thunder_model",
    "frechet_distance",
    "judge_encoder",
    "judge_probe",
    "knn_predict",
    "macro_f1",
    "mean_over_datasets",
    "open_dataset",
    "open_pictures",
    "read_embedding_file",
    "read_image_folder",
    "read_named_dataset",
    "read_thunder_embeddings",
    "read_thunder_split",
    "run_task",
    "train_step",
    "write_thunder_part",
]
