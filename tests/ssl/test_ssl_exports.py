"""What a person may import."""

import pixcell_share.ssl


def test_exports_are_pinned() -> None:
    assert pixcell_share.ssl.__all__ == [
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
