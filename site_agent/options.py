"""Options that several commands of `pixcell-site` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of the site's key and site.toml. (default: ~/.pixcell-share)",
                 envvar="PIXCELL_HOME", show_default=False),
]  # fmt: skip
Slides = Annotated[
    Path | None, typer.Option(help="Folder of slides; sub-folders are searched.",
                              show_default=False),
]  # fmt: skip
Tiles = Annotated[
    Path | None,
    typer.Option(help="Folder of tiles as PNG, JPEG or TIFF, in place of slides.",
                 show_default=False),
]  # fmt: skip
Table = Annotated[
    Path | None,
    typer.Option(help="CSV with the columns slide,mpp,case_id,label; for tiles, file and more.",
                 show_default=False),
]  # fmt: skip
PatientColumn = Annotated[
    str, typer.Option(help="Column of a table of tiles that names the patient.")
]
LabelColumn = Annotated[str, typer.Option(help="Column of a table of tiles that names the class.")]
Holdout = Annotated[
    float, typer.Option(help="Share of the patients set aside as the audit's control group.")
]
AuditEncoder = Annotated[
    str | None,
    typer.Option(help="Encoder of the audit, not the one that conditions. (default: the "
                 "strongest on this machine; texture needs no weights)", show_default=False),
]  # fmt: skip
AuditWeights = Annotated[
    str | None,
    typer.Option(help="Folder or repository of its weights.", show_default=False),
]
Mpp = Annotated[
    float | None, typer.Option(help="µm/px of level 0, for slides that do not carry it.")
]
Model = Annotated[
    str, typer.Option(help="nano, a folder, or a repository such as StonyBrook-CVLab/PixCell-256.")
]
Vae = Annotated[
    str | None, typer.Option(help="Folder or repository of the VAE, if the model brings none.")
]
Encoder = Annotated[
    str | None,
    typer.Option(help="Encoder that conditions. (default: nano for nano, else uni2h)"),
]
Weights = Annotated[str | None, typer.Option(help="Folder or repository of the encoder's weights.")]
TrustRemoteCode = Annotated[
    bool, typer.Option(help="Let an encoder that ships as code (KEEP) run it.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
BatchSize = Annotated[
    str, typer.Option(help="Tiles generated together; auto: what suits this device.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the generator: a minute once, then faster.")
]
Steps = Annotated[
    int, typer.Option(help="Denoising steps. Fewer are faster and change the result.")
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(help="Changes the result. Guide only at these time steps, such as 100-900.",
                 show_default=False),
]  # fmt: skip
BlockCache = Annotated[
    int | None,
    typer.Option(help="Changes the result. Compute the blocks in every 2nd (3rd) step only."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last.")]
