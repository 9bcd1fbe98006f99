"""`pixcell-site doctor`: say beforehand what would fail, each line with its remedy."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement
from rich.text import Text

from pixcell_share.bundles import SiteKey
from pixcell_share.checks import Check, fail, ok, warn
from pixcell_share.console import output
from pixcell_share.errors import PixcellError
from site_agent.doctor.settings import DoctorSettings
from site_agent.doctor.slides import examine_disk, examine_slides, nearest_folder
from site_agent.doctor.weights import examine_weights
from site_agent.home import SiteHome

_GPU_GIB = 10.0  # PixCell-256, the SD3 VAE and UNI2-h in float32 take 6 GiB, a batch the rest
_RAM_GIB = 8.0  # the same weights pass through the main memory
_STYLES = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def run_doctor(settings: DoctorSettings) -> list[Check]:
    """Examine everything that a run needs; nothing is written, downloaded or changed."""
    survey = examine_slides(settings)
    return [
        examine_versions(),
        examine_device(settings.device, settings.model),
        *survey.checks,
        *examine_weights(settings),
        examine_disk(settings.out, survey.tiles),
        examine_out(settings.out),
        *examine_home(SiteHome(settings.home)),
    ]


def print_checks(checks: Sequence[Check]) -> None:
    """One line for each finding, and its remedy under it."""
    console = output()
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        word, style = _STYLES[check.status]
        console.print(Text.assemble((word, style), f"  {check.name:{width}}  {check.detail}"))
        if check.remedy:
            console.print(Text(f"{'':6}{'':{width}}  -> {check.remedy}", style="dim"))


def examine_versions() -> Check:
    """Python, torch, and whether every library has a version that this program was made for."""
    found = f"Python {platform.python_version()}, torch {torch.__version__}"
    wrong = [text for text in map(_wrong_version, _requirements()) if text]
    if wrong:
        return fail("versions", f"{found}; {'; '.join(wrong)}", "run `pip install pixcell-share`")
    return ok("versions", found)


def _requirements() -> list[Requirement]:
    wanted = [Requirement(line) for line in requires("pixcell-share") or ()]
    return [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]


def _wrong_version(requirement: Requirement) -> str:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name} is {found}, not {requirement.specifier}"


def examine_device(device: str, model: str) -> Check:
    """The device that ``--device`` means, and its memory."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        return fail("device", f"{device} is not a device", "use auto, cpu, cuda or cuda:N")
    return _examine_gpu(kind) if kind.type == "cuda" else _examine_cpu(model)


def _examine_gpu(device: torch.device) -> Check:
    if (device.index or 0) >= torch.cuda.device_count():
        return fail("device", f"there is no {device} on this machine", "use --device cpu or auto")
    properties = torch.cuda.get_device_properties(device)
    memory = properties.total_memory / 2**30
    detail = f"{properties.name}, {memory:.0f} GiB"
    if memory < _GPU_GIB:
        return warn("device", detail, "use a small --batch-size and --dtype bf16")
    return ok("device", detail)


def _examine_cpu(model: str) -> Check:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    detail = f"CPU, {cores} cores, {memory:.0f} GiB"
    if model == "nano":
        return ok("device", detail)
    if memory < _RAM_GIB:
        return warn("device", detail, f"{model} wants {_RAM_GIB:.0f} GiB: use a larger machine")
    return warn("device", detail, f"{model} takes minutes for a tile on a CPU: use a GPU")


def examine_out(out: Path) -> Check:
    """Whether files can be made in the work folder, or where it would be made."""
    folder = nearest_folder(out)
    blocked = next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None)
    if blocked is not None:
        return fail("work folder", f"{blocked} is a file", "choose another --out")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return fail(
            "work folder",
            f"{folder} cannot be written: {error.strerror}",
            "change its permissions or choose another --out",
        )
    return ok("work folder", f"{out} can be written")


def examine_home(home: SiteHome) -> list[Check]:
    """The site's key, its permissions, and ``site.toml``."""
    checks = [_examine_key(home)]
    try:
        label = home.config().site
    except PixcellError as error:
        return [*checks, fail("site.toml", error.cause, error.remedy)]
    if home.config_file.exists():
        checks.append(ok("site.toml", f"this site is called {label}"))
    return checks


def _examine_key(home: SiteHome) -> Check:
    if not home.private_key.exists():
        return warn(
            "site key",
            f"there is none in {home.folder}: the first run makes one",
            "run `pixcell-site init --site NAME` to make it now and give the site its name",
        )
    try:
        key = SiteKey.load(home.private_key)
    except PixcellError as error:
        return fail("site key", error.cause, error.remedy)
    return ok("site key", f"fingerprint {key.key_id[:16]}…, readable by its owner alone")
