"""Encoders: their terms, their lineage, and how they compare."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from hub_server.registry import Registry, SourceRole, cohorts, encoders, lineage
from hub_server.registry.encoders import NewEncoder, Source
from hub_server.registry.leaderboard import Figure, leaderboard
from pixcell_share.errors import NotFoundError, SettingsError, StateError
from pixcell_share.evaluation.embedded import Embedded, EmbeddedDataset
from pixcell_share.evaluation.evaluate import evaluate
from tests.hub_server.registry_helpers import a_site, accepted, digest, model, trained


def new(**words: object) -> NewEncoder:
    given = {
        "name": "E",
        "arch": "dinov2_vitb14",
        "folder": "encoders/e",
        "digest": digest("e"),
        "card": {"epochs": 3},
        "sources": [Source(SourceRole.REAL, dataset="lung_tiles")],
    }
    return NewEncoder(**given | words)


@pytest.mark.parametrize(
    ("cohort_terms", "own_terms", "expected"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_terms_carry_over(
    registry: Registry, cohort_terms: bool, own_terms: bool, expected: bool
) -> None:
    with registry.session() as session:
        accepted(session, a_site(session), "a", model("1" * 64, noncommercial=cohort_terms))
        sources = [Source(SourceRole.SYNTHETIC, cohort_id=digest("a"))]
        made = encoders.add_encoder(session, new(sources=sources, noncommercial=own_terms))
    assert made.noncommercial is expected


def test_sources_are_kept_in_their_order_with_their_roles(registry: Registry) -> None:
    with registry.session() as session:
        accepted(session, a_site(session), "a")
        sources = [
            Source(SourceRole.REAL, dataset="lung_tiles"),
            Source(SourceRole.SYNTHETIC, cohort_id=digest("a")),
            Source(SourceRole.REAL, dataset="crc"),
        ]
        encoders.add_encoder(session, new(sources=sources))
    with registry.reading() as session:
        found = encoders.find_encoder(session, "E")
        assert encoders.find_encoder(session, found.id).name == "E"
        assert [(s.role, s.cohort_id, s.dataset) for s in found.sources] == [
            (s.role, s.cohort_id, s.dataset) for s in sources
        ]


@pytest.mark.parametrize("end", ["unknown", "uploaded", "withdrawn"])
def test_an_encoder_learns_from_accepted_cohorts_only(registry: Registry, end: str) -> None:
    with registry.session() as session:
        site = a_site(session)
        if end == "uploaded":
            cohorts.receive(session, digest("a"), site, 1)
        if end == "withdrawn":
            accepted(session, site, "a")
            cohorts.withdraw(session, digest("a"), by="hub", reason="x")
    expected = "not known" if end == "unknown" else end
    with pytest.raises(StateError, match=expected), registry.session() as session:
        trained(session, "E", "a")


def test_names_are_taken_once_and_checked(registry: Registry) -> None:
    with registry.session() as session:
        encoders.add_encoder(session, new())
    with pytest.raises(StateError, match="there is an encoder"), registry.session() as session:
        encoders.add_encoder(session, new())
    with pytest.raises(SettingsError), registry.session() as session:
        encoders.add_encoder(session, new(name="<script>"))
    with pytest.raises(NotFoundError), registry.reading() as session:
        encoders.find_encoder(session, "F")
    with pytest.raises(SettingsError, match="a cohort or a dataset"):
        Source(SourceRole.REAL)
    with pytest.raises(SettingsError, match="a cohort or a dataset"):
        Source(SourceRole.REAL, cohort_id=digest("a"), dataset="x")


@pytest.fixture
def generations(registry: Registry) -> Registry:
    """Cohort a -> encoder one -> (its weights made) cohort b -> encoder two -> cohort c -> three.

    Beside that: cohort d -> encoder apart; and encoder two also learned from a dataset.
    """
    with registry.session() as session:
        site = a_site(session)
        accepted(session, site, "a")
        accepted(session, site, "d")
        trained(session, "one", "a", sha256="1" * 64)
        accepted(session, site, "b", model("1" * 64, role="encoder"))
        trained(session, "two", "b", sha256="2" * 64)
        accepted(session, site, "c", model("2" * 64, role="encoder"), model("7" * 64))
        trained(session, "three", "c", "d", sha256="3" * 64)
        trained(session, "apart", "d", sha256="4" * 64)
        trained(session, "real", sha256="5" * 64)
    return registry


@pytest.mark.parametrize(
    ("cohort", "expected"),
    [
        ("a", ["one", "two", "three"]),
        ("b", ["two", "three"]),
        ("c", ["three"]),
        ("d", ["three", "apart"]),
    ],
)
def test_a_cohort_is_followed_through_the_cohorts_that_its_encoders_made(
    generations: Registry, cohort: str, expected: list[str]
) -> None:
    with generations.reading() as session:
        found = lineage.trained_on(session, digest(cohort))
    assert [encoder.name for encoder in found] == expected


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [("one", "a"), ("two", "ab"), ("three", "abcd"), ("apart", "d"), ("real", "")],
)
def test_and_back(generations: Registry, encoder: str, expected: str) -> None:
    with generations.reading() as session:
        found = lineage.learned_from(session, encoders.find_encoder(session, encoder))
    assert found == [digest(letter) for letter in expected]


def test_a_circle_of_names_ends(registry: Registry) -> None:
    """A cohort may claim any weights, also those of an encoder that learns from it later."""
    with registry.session() as session:
        accepted(session, a_site(session), "a", model("1" * 64, role="encoder"))
        one = trained(session, "one", "a", sha256="1" * 64)
        assert [encoder.name for encoder in lineage.trained_on(session, digest("a"))] == ["one"]
        assert lineage.learned_from(session, one) == [digest("a")]


def result(
    dataset: str,
    *figures: float,
    task: str = "knn",
    digest: str = "d" * 64,
    shots: tuple[str, ...] = ("",),
) -> dict[str, Any]:
    """What the leaderboard reads of an `EvaluationResult`; with more shots all is better by 0.1."""
    return {
        "task": task,
        "dataset": {"name": dataset, "digest": digest},
        "figures": {
            each: {
                name: {"value": value + place / 10, "low": figures[1], "high": figures[2]}
                for name, value in (("balanced_accuracy", figures[0]), ("f1", 0.5))
            }
            for place, each in enumerate(shots)
        },
    }


def record(session: Session, encoder: str, *words: Any, **more: Any) -> None:
    encoders.record_evaluation(session, encoder, result(*words, **more))


def test_the_leaderboard(registry: Registry) -> None:
    with registry.session() as session:
        trained(session, "ours")
        record(session, "ours", "crc", 0.70, 0.60, 0.80)
        record(session, "ours", "lung", 0.90, 0.80, 0.95)
        record(session, "UNI2-h", "crc", 0.85, 0.80, 0.90)
        record(session, "UNI2-h", "lung", 0.95, 0.90, 0.99)
        record(session, "partial", "crc", 0.99, 0.98, 1.00)
        record(session, "ours", "lung", 0.1, 0.0, 0.2, task="linear_probing")
    with registry.reading() as session:
        board = leaderboard(session)
        only = leaderboard(session, datasets=["crc"])
        f1 = leaderboard(session, metric="f1")
        assert leaderboard(session, metric="nothing").rows == ()
    assert board.datasets == ("crc", "lung")
    assert [row.encoder for row in board.rows] == ["UNI2-h", "ours", "partial"]
    ours = board.rows[1]
    assert ours.encoder_id is not None
    assert board.rows[0].encoder_id is None
    assert ours.figures["lung"] == Figure(0.90, 0.80, 0.95)
    assert ours.mean is not None
    assert ours.mean.value == pytest.approx(0.80)
    assert ours.mean.low == pytest.approx(0.80 - math.sqrt(0.1**2 + 0.1**2) / 2)
    assert ours.mean.high == pytest.approx(0.80 + math.sqrt(0.1**2 + 0.05**2) / 2)
    assert board.rows[2].mean is None
    assert [row.encoder for row in only.rows] == ["partial", "UNI2-h", "ours"]
    assert f1.rows[0].figures["crc"].value == 0.5


def test_the_latest_result_counts(registry: Registry) -> None:
    with registry.session() as session:
        record(session, "UNI2-h", "crc", 0.1, 0.0, 0.2)
    with registry.session() as session:
        record(session, "UNI2-h", "crc", 0.8, 0.7, 0.9)
    with registry.reading() as session:
        (row,) = leaderboard(session).rows
    assert row.figures["crc"].value == 0.8


def test_data_that_differ_are_not_compared_for_their_name(registry: Registry) -> None:
    with registry.session() as session:
        record(session, "a", "crc", 0.8, 0.7, 0.9)
        record(session, "b", "crc", 0.9, 0.8, 1.0, digest="e" * 64)
        record(session, "a", "lung", 0.8, 0.7, 0.9)
    with registry.reading() as session:
        board = leaderboard(session)
    assert board.datasets == ("crc (dddddddd)", "crc (eeeeeeee)", "lung")
    assert {row.encoder: set(row.figures) for row in board.rows} == {
        "a": {"crc (dddddddd)", "lung"},
        "b": {"crc (eeeeeeee)"},
    }


def test_simpleshot_counts_with_the_most_shots(registry: Registry) -> None:
    with registry.session() as session:
        shots = ("1", "4", "16")
        record(session, "a", "crc", 0.5, 0.4, 0.9, task="simple_shot", shots=shots)
    with registry.reading() as session:
        (row,) = leaderboard(session, "simple_shot").rows
    assert row.figures["crc"].value == pytest.approx(0.7)


def test_what_an_evaluation_writes_is_what_the_board_reads(registry: Registry) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3

    def part() -> Embedded:
        rows = rng.normal(size=(60, 8)) + 2 * np.eye(3, 8)[labels]
        return Embedded(rows.astype(np.float32), labels)

    found = evaluate(None, EmbeddedDataset("blobs", part(), part(), part()))
    with registry.session() as session:
        encoders.record_evaluation(session, "given", found.to_dict())
    with registry.reading() as session:
        (row,) = leaderboard(session).rows
    expected = found.balanced_accuracy
    assert row.figures["blobs"] == Figure(expected.value, expected.low, expected.high)


def test_an_encoders_results_and_names_of_strangers(registry: Registry) -> None:
    with registry.session() as session:
        ours = trained(session, "ours")
        record(session, ours.id, "crc", 0.5, 0.4, 0.6)
    with registry.reading() as session:
        (found,) = encoders.evaluations_of(session, encoders.find_encoder(session, "ours"))
        assert (found.dataset, found.external) == ("crc", None)
        assert [encoder.name for encoder in encoders.list_encoders(session)] == ["ours"]
    with pytest.raises(SettingsError), registry.session() as session:
        record(session, "x", "<b>", 0.5, 0.4, 0.6)
