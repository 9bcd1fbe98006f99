"""Words that stand in every bundle or are public anyway: they tell nothing about a patient."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from pixcell_share.bundles._card import render_card
from pixcell_share.bundles._codec import audit_statement, manifest_statement
from pixcell_share.bundles._croissant import croissant
from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.bundles.cohort import Cohort, GenerationSettings, Manifest
from pixcell_share.bundles.requirements import OPTIONAL_TESTS, REQUIRED_TESTS
from pixcell_share.files import canonical_json
from pixcell_share.weights import ModelIdentity

_TOKEN = re.compile(r"[^\W_]+")
_USUAL = frozenset(
    _TOKEN.findall("""
    admin archive batch biopsy block case cases cohort container data default docker export folder
    home hospital host image images input label labels local localhost main media node nodes null
    output path pathology patient patients private project projects public root runner sample
    samples scan scanner scans scratch section sections server shared site slide slides stain
    storage store study temp test tests tile tiles tissue train true false none user users work
    workspace
    """)
)
"""Names of folders, computers and accounts that are the same everywhere. To find them in a bundle
would say nothing, and a computer called ``node`` must not forbid the word."""


def tokens(text: str) -> list[str]:
    """Runs of letters and digits, case-folded."""
    return _TOKEN.findall(text.casefold())


def public_texts(cohort: Cohort, audit: AuditResult | None = None) -> tuple[str, ...]:
    """What the site chose to publish: its label, the class names, the models, the tests."""
    texts = [cohort.site, *cohort.classes, cohort.generation.sampler]
    for model in cohort.models:
        texts += [model.name, model.source, model.revision, model.licence]
    for test in audit.tests if audit else ():
        texts += [test.name, *test.figures, *test.limit]
    return tuple(texts)


def common_words(public: Iterable[str]) -> frozenset[str]:
    """Words that are looked for in no bundle."""
    return _own_words().union(_USUAL, *(tokens(text) for text in public))


@cache
def _own_words() -> frozenset[str]:
    """Every word of a bundle about nothing: its card, its metadata and its statements."""
    model = ModelIdentity("generator", "x", "x", "x", "x", True, "0" * 64)
    cohort = Cohort("x", ("x",), 256, 0.5, (model,), GenerationSettings("x", 1, 1.0, 1))
    tests = tuple(AuditTest(name, True) for name in (*REQUIRED_TESTS, *OPTIONAL_TESTS))
    audit = AuditResult("PASS", tests)
    zero = "0" * 64
    manifest = Manifest(cohort, (1,), (), zero, "PASS", zero, "0", (("x", zero),))
    metadata = croissant(cohort, [1], [(f"x.{kind}", zero, 1) for kind in ("h5", "md", "png")])
    parts = (
        render_card(cohort, [1], audit),
        canonical_json(metadata).decode(),
        manifest_statement(manifest).to_bytes().decode(),
        audit_statement(audit, [("x", zero)]).to_bytes().decode(),
    )
    return frozenset(word for part in parts for word in tokens(part))
