"""Statements: signed by a member, and wrong in themselves or about something else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_server.intake import Reason
from pixcell_share.bundles import AuditResult, AuditTest, SiteKey
from pixcell_share.bundles._codec import audit_statement
from tests.bundles.forging import AUDIT, MANIFEST, payload_of, sign_anew, sign_file, without
from tests.bundles.hostile_corpus.case import Case, Spoil
from tests.bundles.hostile_corpus.good import changed_audit, write_good
from tests.bundles.hostile_corpus.keys import make_key

Edit = Callable[[dict[str, Any]], object]


def cases() -> list[Case]:
    """All of them."""
    return [*_FIELDS, *_NAMES, *_LISTS, *_AUDITS]


def _signed(edit: Edit) -> Spoil:
    return lambda folder, key: sign_anew(folder, key, edit_manifest=edit)


def _set(*path: str | int, to: object) -> Edit:
    def edit(statement: dict[str, Any]) -> None:
        place: Any = statement
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return edit


def _predicate(*path: str | int, to: object) -> Spoil:
    return _signed(_set("predicate", *path, to=to))


def _subject(name: str) -> Spoil:
    entry = {"name": name, "digest": {"sha256": "0" * 64}}

    def edit(manifest: dict[str, Any]) -> None:
        manifest["subject"] = sorted([*manifest["subject"], entry], key=lambda s: s["name"])

    return _signed(edit)


def _subject_twice(manifest: dict[str, Any]) -> None:
    manifest["subject"].append(manifest["subject"][-1])


def _shard_twice(manifest: dict[str, Any]) -> None:
    manifest["predicate"]["shards"] *= 2


def _shard_moved(folder: Path, key: SiteKey) -> None:
    (folder / "shard-00000.h5").rename(folder / "shard-00001.h5")
    edit = _set("predicate", "shards", 0, "name", to="shard-00001.h5")
    sign_anew(folder, key, edit_manifest=edit)


def _audit(result: AuditResult) -> Spoil:
    """Another outcome in the audit, properly signed."""
    statement = json.loads(audit_statement(result, (("x", "0" * 64),)).to_bytes())
    return lambda folder, key: sign_anew(
        folder,
        key,
        edit_audit=lambda audit: audit.update(predicate=statement["predicate"]),
        edit_manifest=_set("predicate", "audit", "verdict", to=result.verdict),
    )


def _sibling(folder: Path, key: SiteKey) -> Path:
    """Another good bundle of the same site."""
    return write_good(folder.with_name("sibling"), key, seed=5)


def _audit_of_sibling(folder: Path, key: SiteKey) -> None:
    shutil.copy(_sibling(folder, key) / AUDIT, folder)


def _audit_of_sibling_listed(folder: Path, key: SiteKey) -> None:
    other = payload_of(_sibling(folder, key) / AUDIT)
    sign_anew(folder, key, edit_audit=lambda audit: audit.update(subject=other["subject"]))


def _audit_by_other(folder: Path, key: SiteKey) -> None:
    sign_anew(folder, make_key("other"))
    audit = (folder / AUDIT).read_bytes()
    sign_anew(folder, key)
    _take_audit(folder, key, audit)


def _take_audit(folder: Path, key: SiteKey, audit: bytes) -> None:
    """Sign a manifest for an audit as it is."""
    (folder / AUDIT).write_bytes(audit)
    digest = hashlib.sha256(audit).hexdigest()
    manifest = payload_of(folder / MANIFEST)
    manifest["predicate"]["audit"]["sha256"] = digest
    next(s for s in manifest["subject"] if s["name"] == AUDIT)["digest"]["sha256"] = digest
    sign_file(folder / MANIFEST, manifest, key)


def _no_audit(folder: Path, key: SiteKey) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["subject"] = [s for s in manifest["subject"] if s["name"] != AUDIT]

    sign_anew(folder, key, edit_manifest=edit)
    (folder / AUDIT).unlink()


_FAILED = AuditResult("REFUSE", (AuditTest("near_copies", False, {"near_copies": 3}),))
_INVALID = AuditResult("INVALID", (AuditTest("planted_copies", False),))

_FIELDS = (
    Case(
        *("provenance_for_cohort", Reason.PREDICATE_UNKNOWN),
        "A signed statement of another kind.",
        _signed(_set("predicateType", to="https://slsa.dev/provenance/v1")),
    ),
    Case(
        *("rollback_of_the_format", Reason.SCHEMA_VERSION_UNKNOWN),
        "An earlier version of the format, which had fewer checks.",
        _predicate("schema_version", to=0),
    ),
    Case(
        *("later_format", Reason.SCHEMA_VERSION_UNKNOWN),
        "A version of the format that does not exist yet.",
        _predicate("schema_version", to=2),
    ),
    Case(*("unknown_field", Reason.FIELD_WRONG), "A field too many.", _predicate("extra", to=1)),
    Case(
        *("negative_count", Reason.FIELD_WRONG),
        "Minus one tile.",
        _predicate("classes", 0, "count", to=-1),
    ),
    Case(
        *("count_as_text", Reason.FIELD_WRONG),
        "A count that is a text.",
        _predicate("tiles", "count", to="6"),
    ),
    Case(
        *("tiles_of_a_million_pixels", Reason.FIELD_WRONG),
        "Tiles of a side of a million pixels.",
        _predicate("tiles", "px", to=10**6),
    ),
    Case(
        *("counts_disagree", Reason.COUNTS_DISAGREE),
        "The classes do not add up to the tiles.",
        _predicate("classes", 0, "count", to=2),
    ),
    Case(
        *("path_in_source", Reason.PATH_IN_FIELD),
        "A model is named by a path of the site's machine.",
        _predicate("models", 0, "source", to="/home/someone/weights"),
    ),
)
_NAMES = (
    Case(
        *("markup_in_label", Reason.NAME_NOT_ALLOWED),
        "The site's label is a script.",
        _predicate("site", "name", to="<script>alert(1)</script>"),
    ),
    Case(
        *("terminal_command_in_label", Reason.NAME_NOT_ALLOWED),
        "The site's label clears a terminal.",
        _predicate("site", "name", to="a\x1b[2Jb"),
    ),
    Case(
        *("right_to_left_label", Reason.NAME_NOT_ALLOWED),
        "The label turns round what stands behind it.",
        _predicate("site", "name", to="clinic \u202etxt.exe"),
    ),
    Case(
        *("path_in_class", Reason.NAME_NOT_ALLOWED),
        "A class is named like a path.",
        _predicate("classes", 0, "name", to="../../etc/passwd"),
    ),
    Case(
        *("decomposed_class", Reason.NAME_NOT_ALLOWED),
        "A class in another Unicode spelling (NFD).",
        _predicate("classes", 0, "name", to="ko\u0308rper"),
    ),
    Case(
        *("mixed_script_label", Reason.NAME_MISLEADING),
        "The label has a Cyrillic i among Latin letters.",
        _predicate("site", "name", to="Un\u0456klinik"),
    ),
    Case(
        *("look_alike_classes", Reason.NAME_MISLEADING),
        "Two classes look the same: tumour, and tumour in full-width letters.",
        _predicate("classes", 0, "name", to="\uff54\uff55\uff4d\uff4f\uff55\uff52"),
    ),
    Case(
        *("unseen_letter", Reason.NAME_MISLEADING),
        "A class has a letter that shows nothing (Hangul filler).",
        _predicate("classes", 0, "name", to="normal\u3164"),
    ),
    Case(
        *("label_of_another_site", Reason.NAME_OF_ANOTHER_SITE),
        "The label is another member's name, in Cyrillic letters.",
        _predicate("site", "name", to="\u041c\u0430\u0441\u0430"),
    ),
)
_LISTS = (
    Case("path_in_list", Reason.SUBJECTS_WRONG, "A file above the folder.", _subject("../key")),
    Case("absolute_path_in_list", Reason.SUBJECTS_WRONG, "A path.", _subject("/etc/passwd")),
    Case("backslash_in_list", Reason.SUBJECTS_WRONG, "A path of Windows.", _subject("..\\key")),
    Case(
        *("look_alike_in_list", Reason.SUBJECTS_WRONG),
        "The list has a second manifest, with a Cyrillic a.",
        _subject("m\u0430nifest.dsse.json"),
    ),
    Case("file_listed_twice", Reason.SUBJECTS_WRONG, "A file twice.", _signed(_subject_twice)),
    Case(
        *("path_in_shards", Reason.SHARD_LIST_WRONG),
        "A shard above the folder.",
        _predicate("shards", 0, "name", to="../shard-00000.h5"),
    ),
    Case("shard_listed_twice", Reason.SHARD_LIST_WRONG, "A shard twice.", _signed(_shard_twice)),
    Case("shard_left_out", Reason.SHARD_LIST_WRONG, "Shards begin with one.", _shard_moved),
    Case("no_shards", Reason.SHARD_LIST_WRONG, "No shard.", _predicate("shards", to=[])),
)
_AUDITS = (
    Case("no_audit", Reason.AUDIT_MISSING, "There is no audit.", _no_audit),
    Case(
        *("audit_of_another_bundle", Reason.DIGEST_WRONG),
        "The audit of another bundle of the site is laid over this one's.",
        _audit_of_sibling,
    ),
    Case(
        *("audit_of_another_bundle_signed_for", Reason.AUDIT_OF_ANOTHER_BUNDLE),
        "The manifest signs for an audit of other shards.",
        _audit_of_sibling_listed,
    ),
    Case(
        *("audit_of_another_site", Reason.AUDIT_OF_ANOTHER_KEY),
        "The audit is signed by another member.",
        _audit_by_other,
    ),
    Case("refused_audit", Reason.AUDIT_NOT_PASSED, "The checks failed.", _audit(_FAILED)),
    Case("invalid_audit", Reason.AUDIT_NOT_PASSED, "It proves nothing.", _audit(_INVALID)),
    Case(
        *("cut_audit", Reason.AUDIT_INCOMPLETE),
        "A check is missing.",
        _audit(without("patient_linkage")),
    ),
    Case(
        *("lenient_audit", Reason.REQUIREMENT_NOT_MET),
        "The site passed its own limits, not those of the hub.",
        _audit(changed_audit("patient_linkage", residual_high=0.2)),
    ),
    Case(
        *("audit_contradicts_itself", Reason.AUDIT_CONTRADICTS_ITSELF),
        "It passed, and its result says that it failed.",
        lambda folder, key: sign_anew(
            folder, key, edit_audit=_set("predicate", "result", to="FAILED")
        ),
    ),
    Case(
        *("edited_limits", Reason.AUDIT_CONTRADICTS_ITSELF),
        "The limits are not those whose digest stands beside them.",
        lambda folder, key: sign_anew(
            folder,
            key,
            edit_audit=_set(
                *("predicate", "configuration", 0, "annotations", "near_copies", "pixel_ncc"),
                to=1.0,
            ),
        ),
    ),
)
