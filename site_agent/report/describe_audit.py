"""What a run hands to the privacy officer's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pixcell_share.bundles import AuditResult, SiteKey
from pixcell_share.errors import LedgerError
from pixcell_share.privacy.ledger import Total
from pixcell_share.privacy.linkage import PatientScores
from site_agent.home import SiteHome
from site_agent.models import Models
from site_agent.report.audit_page import AuditReport, LedgerRow, LinkedPatient
from site_agent.report.describe import Findings, software
from site_agent.report.gallery import Gallery
from site_agent.run_folder import RunFolder


def describe_audit(
    run: RunFolder,
    home: SiteHome,
    key: SiteKey,
    models: Models,
    findings: Findings,
    result: AuditResult,
    digest: str | None,
    notes: Sequence[str] = (),
) -> AuditReport:
    """The page of an audit; ``digest`` is that of the signed bundle, None where there is none."""
    gathered, config = findings.gathered, home.config()
    gallery = Gallery(run, gathered)
    evidence = gathered.evidence
    return AuditReport(
        site=config.site,
        audit=result,
        bundle=digest,
        mode=run.settings.mode,
        encoder=models.encoder.name,
        second_encoder=models.audit_encoder.name,
        second_sentence=models.audit_choice,
        control=evidence.control,
        limits=config.near_copies,
        weak=(*notes, *gathered.weak),
        refused_in_pixels=gallery.refused("pixel", config.near_copies.pixel_limit),
        refused_in_encoder=gallery.refused("embedding", evidence.control.encoder_limit),
        closest_in_pixels=gallery.closest("pixel"),
        closest_in_encoder=gallery.closest("embedding"),
        pixel_scores=gallery.scores("pixel_ncc"),
        encoder_scores=gallery.scores("embedding_similarity"),
        linked=list(_linked(findings)),
        ledger=list(_ledger(home, key, findings)),
        seed=gathered.seed,
        software=software(),
        models=(*models.identities, models.audit_encoder.identity),
    )


def _linked(findings: Findings) -> Iterator[LinkedPatient]:
    linkage = findings.gathered.evidence.linkage
    if linkage is None:
        return
    names = findings.groups.patients
    for group, scores in (("in the cohort", linkage.members), ("set aside", linkage.outsiders)):
        yield from _rows(names, group, scores)


def _rows(names: Sequence[str], group: str, found: PatientScores) -> Iterator[LinkedPatient]:
    values = zip(found.patients, found.scores, found.ranks, found.declared, strict=True)
    for patient, score, rank, declared in values:
        yield LinkedPatient(
            patient=names[int(patient)], group=group, score=float(score), p=float(rank),
            claimed=bool(declared),
        )  # fmt: skip


def _ledger(home: SiteHome, key: SiteKey, findings: Findings) -> Iterator[LedgerRow]:
    """What each patient of the cohort has taken part in, this release included."""
    ledger = home.ledger(key)
    try:
        totals = ledger.verify().totals()
    except LedgerError:
        return  # the run itself stops at it, and says so
    for patient in findings.groups.cohort:
        total = totals.get(ledger.pseudonym(patient), Total())
        yield LedgerRow(
            patient=patient, releases=total.releases, epsilon=total.epsilon, delta=total.delta
        )
