"""What each test of the audit asks, and what to do if it failed, for somebody new to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """The words of a test that do not depend on what it found."""

    title: str
    """A question that can be answered by yes or no."""
    tried: str
    """What was tried."""
    remedy: str = ""
    """What to do where the test failed."""


QUESTIONS: dict[str, Question] = {
    "planted_copies": Question(
        "Would a copy have been noticed?",
        "Copies of real tiles were planted on purpose (exact, flipped, rotated, changed in "
        "colour, recompressed) and searched for like any other tile.",
        "The audit cannot judge this cohort. Look for scans that are almost blank or all "
        "alike, or for an encoder that sees no difference between them.",
    ),
    "near_copies_in_pixels": Question(
        "Does a tile repeat a real one, in pixels?",
        "Every synthetic tile was compared with every real tile of the run, under flips, "
        "quarter turns and small shifts.",
        "Look at the tiles below. Mix patients (--mix), or leave out the slides that they repeat.",
    ),
    "near_copies_in_encoder": Question(
        "Does a tile repeat a real one, in the encoder?",
        "Does a synthetic tile come closer to a real one than real tiles of the run are to "
        "each other? Some likeness is by design: tiles are made from embeddings of real ones.",
        "Look at the tiles below. Mix patients (--mix), or leave out the slides that they repeat.",
    ),
    "second_encoder": Question(
        "Can the audit's own encoder see?",
        "The attacks below look through another encoder than the one that conditioned the "
        "cohort. An encoder that sees nothing would find nothing, whatever leaked.",
        "Run the audit again with a stronger second encoder.",
    ),
    "retrieval": Question(
        "Does a tile lead back to the real tile behind it?",
        "Somebody who holds the real tiles looks for the one nearest to each synthetic tile. "
        "The control: a tile of another patient of the same class in the place of the true "
        "one.",
        "Mix several patients into each tile (--mix 5 or more), or condition on "
        "differentially private statistics (--dp-epsilon).",
    ),
    "patient_linkage": Question(
        "Can a patient be linked to the cohort?",
        "Somebody holds other tiles of a patient and asks whether that patient is in the "
        "cohort. The same attack on patients who were set aside shows how often the claim is "
        "wrong.",
        "Mix more patients into each tile (--mix), condition on differentially private "
        "statistics (--dp-epsilon), or add patients, if the interval is wide.",
    ),
    "patient_linkage_conditioning": Question(
        "Can a patient be linked through the encoder that conditioned?",
        "The same attack through the encoder whose embeddings made the tiles. It is public, so an "
        "attacker has it too.",
        "Mix more patients into each tile (--mix), condition on differentially private "
        "statistics (--dp-epsilon), or add patients, if the interval is wide.",
    ),
    "data_copying": Question(
        "Is the cohort as a whole too close to its tiles?",
        "Are synthetic tiles nearer to the tiles that conditioned them than tiles of patients"
        " set aside are? C_T is near 0 where they are not, and far below 0 where they copy.",
        "Mix more patients into each tile (--mix), or lower the guidance scale.",
    ),
    "authenticity": Question(
        "How many tiles are their own?",
        "A tile counts as its own where it lies further from the nearest real tile than that "
        "tile lies from the next real one.",
    ),
    "closest_record": Question(
        "Are tiles nearer to the cohort than to other patients?",
        "The nearest tile among those of the cohort, against as many tiles of patients set "
        "aside. Half of the synthetic tiles would be nearer to the cohort by chance.",
        "Mix more patients into each tile (--mix).",
    ),
    "membership": Question(
        "Do the trained weights remember their tiles?",
        "The weights were trained on tiles of this site. Two attacks tell training tiles from"
        " tiles that were kept out, by how well the model restores them.",
        "Train for fewer steps or on more patients, or use the public weights.",
    ),
    "attributes": Question(
        "Does anything beside the pictures identify someone?",
        "Names, numbers, dates, places, the order of the tiles and hidden bytes were searched"
        " in every file of the bundle.",
        "The finding is named in the message of the run. Rename the class or the site, or "
        "report it if the program wrote it.",
    ),
    "cohort": Question(
        "Are there enough patients?",
        "The fewer patients, the more a cohort says about each, and the less an audit can see.",
        "Add slides of more patients, or leave the small class out.",
    ),
    "budget": Question(
        "What have the patients taken part in before?",
        "A patient who takes part in many releases is exposed more by each. The ledger keeps "
        "count over all releases of the site.",
        "Leave out the patients whose budget is spent, or wait for the privacy officer to "
        "raise the budget in site.toml, which cannot be taken back.",
    ),
}

NO_ONE_ATTACKED = (
    "No patient could be attacked: that takes two patients set aside in a class. The audit says "
    "nothing about patients."
)

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Can this audit see anything?", ("planted_copies", "second_encoder")),
    (
        "Can a patient be found?",
        ("patient_linkage", "patient_linkage_conditioning", "retrieval"),
    ),
    ("Is a tile a copy?", ("near_copies_in_pixels", "near_copies_in_encoder")),
    (
        "Is the cohort as a whole too close to its patients?",
        ("data_copying", "authenticity", "closest_record"),
    ),
    ("Weights that were trained at this site", ("membership",)),
    ("Around the pictures", ("attributes", "cohort", "budget")),
)
"""The tests in the order of the page, under headings."""

UNSEEN: tuple[tuple[str, str], ...] = (
    (
        "A stronger attack.",
        "Somebody with a better encoder, a trained attacker or more tiles of a patient may find "
        "what these attacks do not. A pass says what was tried, never what is possible.",
    ),
    (
        "A single unusual patient.",
        "The figures are about many patients. One with rare tissue may be easier to recognise "
        "than they say: look at the closest pairs and at the table of patients.",
    ),
    (
        "Somebody who has the slides.",
        "Each tile descends from embeddings of real tiles and may resemble them. Whoever holds "
        "the slides can compare as this audit did, with more time.",
    ),
    (
        "What the public weights learned.",
        "The generator was trained on public slides. If patients of this site are among them, "
        "what the weights remember of them is not measured here.",
    ),
    (
        "Patients whom the slide table mixes up.",
        "Two names for one patient put that patient into the cohort and among those set aside; "
        "slides without a patient in the table count as patients of their own.",
    ),
    (
        "Parts of tiles.",
        "A copied part of a tile, or a copy turned by other than right angles, may not reach the "
        "limit of the near copies. Almost blank tiles have nothing to compare.",
    ),
    (
        "Several releases together, and other knowledge.",
        "The ledger counts releases but no attack combines them. What a reader knows from "
        "elsewhere, such as a rare disease in a small region, is not part of any test.",
    ),
)
"""What no test here can notice: a heading and a sentence or two each."""
