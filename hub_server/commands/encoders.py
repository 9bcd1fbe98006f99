"""Encoders: train, evaluate, compare; the leaderboard, and the jobs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from hub_server.commands.options import ACTOR, Home, Json, show_fields, show_rows
from pixcell_share import console

if TYPE_CHECKING:
    from hub_server.home import HubHome
    from hub_server.registry.leaderboard import Figure

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Weights = Annotated[
    str | None, typer.Option(help="Folder or repository of a registered encoder's weights.")
]
Task = Annotated[
    str,
    typer.Option(
        click_type=click.Choice(["knn", "linear_probing", "simple_shot"]),
        help="Protocol of the Thunder benchmark.",
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Queue the job, and end.")]


def train(
    cohort: Annotated[
        list[str] | None,
        typer.Option(help="Accepted cohort: digest, its beginning, or its site; repeatable."),
    ] = None,
    real: Annotated[
        list[Path] | None, typer.Option(help="Folder of real tiles of your own; repeatable.")
    ] = None,
    real_licence: Annotated[
        list[str] | None, typer.Option(help="Terms of the real tiles, for the encoder's card.")
    ] = None,
    real_noncommercial: Annotated[
        bool, typer.Option("--real-noncommercial", help="These forbid commercial use.")
    ] = False,
    name: Annotated[str, typer.Option(help="Of the encoder. (default: architecture and job)")] = "",
    preset: Annotated[
        str, typer.Option(help="small: minutes on 2 cores; vitb14, vitl14: for GPUs.")
    ] = "small",
    arch: Annotated[
        str | None, typer.Option(help="Such as dinov2_vitb14. (default: the preset's)")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps. (default: the preset's)")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, such as crops.local_px=98; repeatable."),
    ] = None,
    no_wait: NoWait = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train a DINOv2 encoder from scratch on cohorts, on real tiles, or on both.

    Ctrl-C saves first; the job goes on with `pixcell-hub jobs ID --run`. While the hub is served,
    it runs the job, and this command watches.

    \b
    pixcell-hub train --cohort 6b755a49 --name first
    pixcell-hub train --cohort "Hospital A" --cohort "Hospital B" --preset vitb14
    pixcell-hub train --real ./tiles --cohort 6b755a49:synthetic --steps 300
    """
    from hub_server.home import HubHome
    from hub_server.jobs import Hub, RealData, TrainSettings, plan_training
    from hub_server.jobs.changes import parse_changes

    terms = partial(RealData, licences=tuple(real_licence or ()), noncommercial=real_noncommercial)
    wanted = TrainSettings(
        cohorts=tuple(cohort or ()),
        real=tuple(terms(folder=folder) for folder in real or ()),
        name=name,
        arch=arch,
        preset=preset,
        steps=steps,
        changes=parse_changes(set_ or ()),
    )
    place = HubHome.locate(home)
    with Hub.opened(place, ACTOR) as hub:
        job = plan_training(hub, wanted).id
    _finish(place, job, no_wait, as_json)


def evaluate(
    encoder: Annotated[
        str, typer.Option(help="Of this hub, a registered one such as nano, or a folder.")
    ],
    dataset: Annotated[
        str,
        typer.Option(help="Folder of pictures, Thunder's split or name, or an embedding file."),
    ],
    task: Task = "knn",
    base: Annotated[
        Path | None, typer.Option(help="Thunder's base folder, for a data set by name.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Pictures of a split file.")] = None,
    weights: Weights = None,
    device: Device = "auto",
    no_wait: NoWait = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Test an encoder as the Thunder benchmark does; the result goes to the leaderboard.

    \b
    pixcell-hub evaluate --encoder first --dataset ./tiles
    pixcell-hub evaluate --encoder uni2h --dataset bach --base ./thunder --task linear_probing
    """
    from hub_server.home import HubHome
    from hub_server.jobs import EvaluateSettings, Hub, plan_evaluation

    wanted = EvaluateSettings(
        encoder=encoder, dataset=dataset, task=task, base=base, images=images, weights=weights,
        device=device,
    )  # fmt: skip
    place = HubHome.locate(home)
    with Hub.opened(place, ACTOR) as hub:
        job = plan_evaluation(hub, wanted).id
    _finish(place, job, no_wait, as_json)


def compare(
    first: Annotated[str, typer.Argument(help="The reference: a cohort, or a folder of tiles.")],
    second: Annotated[str, typer.Argument(help="A cohort, or a folder of tiles.")],
    encoder: Annotated[
        str, typer.Option(help="Encoder to look through, or inception:FILE for the FID.")
    ] = "nano",
    weights: Weights = None,
    device: Device = "auto",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Fréchet distance and similarity of two sets of tiles.

    FIRST and SECOND are cohorts of the hub, or folders. Files of equal names count as pairs.

    \b
    pixcell-hub compare ./real-tiles 6b755a49
    pixcell-hub compare ./real ./synthetic --encoder uni2h
    """
    from dataclasses import asdict

    from hub_server.home import HubHome
    from hub_server.jobs import Hub, compare_tiles

    with Hub.opened(HubHome.locate(home), ACTOR) as hub:
        found = compare_tiles(hub, first, second, encoder=encoder, weights=weights, device=device)
    show_fields(asdict(found), as_json)


def leaderboard(
    task: Task = "knn",
    metric: Annotated[
        str, typer.Option(help="balanced_accuracy, accuracy, f1 or jaccard.")
    ] = "balanced_accuracy",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """How the encoders compare, with 95 % intervals.

    Example: pixcell-hub leaderboard --task linear_probing
    """
    from dataclasses import asdict

    from hub_server.home import HubHome
    from hub_server.registry.leaderboard import leaderboard as board

    registry = HubHome.locate(home).registry()
    with registry.reading() as session:
        found = board(session, task, metric)
    registry.close()
    if as_json:
        console.print_json({**asdict(found), "exit_code": 0})
        return
    rows = [
        (row.encoder, *(_figure(row.figures.get(name)) for name in found.datasets),
         _figure(row.mean))
        for row in found.rows
    ]  # fmt: skip
    columns = ("encoder", *found.datasets, "mean")
    show_rows(columns, rows, "no result yet: pixcell-hub evaluate --encoder ... --dataset ...")


def jobs(
    job: Annotated[str | None, typer.Argument(help="One job: its id, or the beginning.")] = None,
    run: Annotated[bool, typer.Option("--run", help="See this job to its end.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel this job.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List trainings, evaluations and intakes; or see one to its end, or cancel it.

    \b
    pixcell-hub jobs
    pixcell-hub jobs 3f2a91c0 --run
    pixcell-hub jobs 3f2a91c0 --cancel
    """
    from hub_server.acts import Acts
    from hub_server.describing import describe_job, describe_jobs
    from hub_server.home import HubHome

    place = HubHome.locate(home)
    registry = place.registry()
    with registry.reading() as session:
        fields = describe_job(session, job) if job else {}
        rows = [] if job else describe_jobs(session)
    registry.close()
    if job and cancel:
        with Acts.opened(place, ACTOR) as acts:
            acts.cancel_job(str(fields["job"]))
        show_fields({**fields, "state": "cancelled"}, as_json)
    elif job and run:
        _finish(place, str(fields["job"]), False, as_json)
    elif job:
        show_fields(fields, as_json)
    elif as_json:
        console.print_json({"jobs": rows, "exit_code": 0})
    else:
        shown = [(str(row["job"])[:8], *list(row.values())[1:]) for row in rows]
        show_rows(("job", "kind", "state", "about", "asked for (UTC)"), shown, "no job yet")


def _finish(home: HubHome, job: str, no_wait: bool, as_json: bool) -> None:
    """See a job to its end, and show what came of it."""
    from hub_server.describing import describe_job
    from hub_server.jobs import finish_job
    from pixcell_share.progress import choose_view

    if not no_wait:
        with choose_view() as view:
            finish_job(home, job, view, ACTOR)
    registry = home.registry()
    with registry.reading() as session:
        fields = describe_job(session, job)
    registry.close()
    show_fields(fields, as_json)


def _figure(figure: Figure | None) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})" if figure else ""
