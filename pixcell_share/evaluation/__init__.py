"""How good a cohort or an encoder is: k-NN classification and the Fréchet distance."""

from pixcell_share.evaluation.frechet import frechet_distance
from pixcell_share.evaluation.knn import (
    KS,
    balanced_accuracy,
    balanced_accuracy_by_patient,
    choose_k,
    knn_predict,
    macro_f1,
)
from pixcell_share.evaluation.utility import Utility, cohort_utility

__all__ = [
    "KS",
    "Utility",
    "balanced_accuracy",
    "balanced_accuracy_by_patient",
    "choose_k",
    "cohort_utility",
    "frechet_distance",
    "knn_predict",
    "macro_f1",
]
