"""Look at a quarantined bundle: raw bytes, statements, shards, pictures; and write it anew.

The order is that of `pixcell_share.bundles.opened_bundle`; then each shard passes once through the
confined process into the storage. Nothing here changes the registry or the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from hub_server.config import HubConfig
from hub_server.intake import canonical, history
from hub_server.intake.arrival import read_manifest_file
from hub_server.intake.pictures import Album, check_pictures
from hub_server.intake.reasons import Reason
from hub_server.intake.signers import check_label, signer_of
from hub_server.intake_settings import IntakeSettings
from hub_server.registry import Registry, Site
from hub_server.registry.cohorts import Facts
from hub_server.registry.columns import utc_now
from hub_server.registry.sites import public_key
from hub_server.storage import Storage
from pixcell_share.bundles import SignedBundle, opened_bundle
from pixcell_share.bundles._codec import MANIFEST_NAME, audit_statement, manifest_statement
from pixcell_share.errors import FormatError


@dataclass(frozen=True)
class Findings:
    """What the hub found in a bundle that it will accept."""

    canonical: dict[str, Any]
    """Files of the canonical form, see `canonical.describe`."""
    summary: dict[str, Any]
    """What the verification summary says."""

    def to_document(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """What `to_document` gave."""
        return cls(**document)


@dataclass(frozen=True)
class Examiner:
    """What an examination needs of a hub."""

    config: HubConfig
    settings: IntakeSettings
    registry: Registry
    storage: Storage

    def examine(
        self,
        digest: str,
        site_id: str,
        folder: Path,
        on_bytes: Callable[[int], object] = lambda _: None,
    ) -> tuple[Facts, Album, Findings]:
        """All checks, and the canonical files.

        Args:
            digest: the bundle's.
            site_id: who sent it, or signed it where an operator brought it.
            folder: the quarantined files.
            on_bytes: told the bytes that were read so far of the raw files, from several threads.

        Raises:
            BundleError: the bundle is refused, with a `Reason`; files may be in the storage.
            StorageError: the disk is full; it can be done again.
            DatabaseError: the registry is away; it can be done again.
        """
        with self.registry.reading() as session:
            manifest = read_manifest_file(folder)
            row = signer_of(
                session, manifest, utc_now(), key_days=self.settings.key_days, sender=site_id
            )
            key = public_key(row)
        with opened_bundle(
            folder, [key], on_bytes=on_bytes, requirements=self.config.require
        ) as signed:
            self._check_statement(signed, digest, site_id)
            album, files = self._rewrite(signed)
        pictures = album.facts()
        check_pictures(pictures, self.settings)
        with self.registry.reading() as session:
            repeats = history.repeats_of_others(session, digest, album.distinct())
            history.check_repeats(
                session, site_id, pictures.tiles - pictures.repeated, repeats, self.settings
            )
        summary = {
            "signed_by": key.key_id,
            "required": [str(requirement) for requirement in self.config.require],
            "pictures": pictures.as_counts(),
            "tiles_of_other_cohorts": repeats,
        }
        return _facts(signed), album, Findings(canonical.describe(files), summary)

    def _check_statement(self, signed: SignedBundle, digest: str, site_id: str) -> None:
        """What only a hub can say about a statement that is sound in itself."""
        if signed.manifest.count > self.settings.tiles:
            raise FormatError(
                f"{MANIFEST_NAME}: {signed.manifest.count} tiles, and {self.settings.tiles} may be",
                "ask the site to split the cohort, or raise intake.tiles in hub.toml",
                Reason.OVER_QUOTA,
            )
        with self.registry.reading() as session:
            check_label(session, signed.manifest.cohort.site, session.get_one(Site, site_id))
            history.check_shards(session, digest, signed.manifest)

    def _rewrite(self, signed: SignedBundle) -> tuple[Album, list[canonical.CanonicalFile]]:
        """Pass every shard through the confined process into the storage."""
        manifest, px = signed.manifest, signed.manifest.cohort.tile_px
        album, files = Album(manifest.count), []
        totals = [0] * len(manifest.class_counts)
        for index, shard in enumerate(manifest.shards):
            shape = (shard.count, px, px, 3)
            with signed.stream(shard) as stream:
                images = canonical.write_shard(self.storage, signed.digest, index, shape, stream)
                found = stream.finish()
            labels = canonical.write_labels(self.storage, signed.digest, index, found.labels)
            files += [images, labels]
            album.add(found.looks)
            totals = [a + b for a, b in zip(totals, found.class_counts, strict=True)]
        signed.check_counts(totals)
        return album, files


def _facts(signed: SignedBundle) -> Facts:
    manifest = signed.manifest
    shards = [entry for entry in manifest.files if entry[0].endswith(".h5")]
    return Facts(
        key_id=signed.key.key_id,
        manifest=json.loads(manifest_statement(manifest).to_bytes()),
        audit=json.loads(audit_statement(signed.audit, shards).to_bytes()),
        counts=manifest.counts,
        models=manifest.cohort.models,
    )
