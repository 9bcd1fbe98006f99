"""What a person may import from the evaluation, and nothing by accident."""

from __future__ import annotations

from pixcell_share import evaluation

EXPORTS = """
CountFloor SiteFigures SiteTiles judge_encoder Probe ProbeSettings ProbeStep judge_probe train_step

    KS METRICS PAPER_DATASETS TASKS Comparison Division Embedded EmbeddedDataset EvaluationResult
    ExtractionSettings FewShot ImageDataset ImagePart InceptionEncoder LinearProbeSettings Outcome
    PictureArray PictureFiles Pictures Utility are_pairs balanced_accuracy
    balanced_accuracy_by_patient choose_k cohort_utility compare difference embed_dataset
    embed_pictures estimates evaluate export_thunder_model frechet_distance knn_predict macro_f1
    mean_over_datasets open_dataset open_pictures read_embedding_file read_image_folder
    read_named_dataset read_thunder_embeddings read_thunder_split run_task write_thunder_part
"""


def test_exports() -> None:
    assert sorted(evaluation.__all__) == sorted(EXPORTS.split())
    assert all(getattr(evaluation, name).__doc__ for name in evaluation.__all__)
