"""Why a bundle is refused: a closed list of codes, each with a sentence."""

from __future__ import annotations

from enum import StrEnum

from pixcell_share.errors import BundleError


class Reason(StrEnum):
    """The code of a rejection, as it is kept, logged, shown and tested. None changes its meaning.

    All codes of `pixcell_share.bundles.Fault` are here, and those of what only a hub can know.
    """

    sentence: str
    """What it means, for people."""

    def __new__(cls, code: str, sentence: str = "") -> Reason:
        """A code that knows its sentence."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    NOT_A_FOLDER = "not_a_folder", "The bundle is not a folder."
    NOT_A_PLAIN_FILE = "not_a_plain_file", "The folder holds a link, a folder or a special file."
    FILE_MISSING = "file_missing", "A file of the signed list is not there."
    FILE_EXTRA = "file_extra", "A file is there that is not in the signed list."
    FILE_TOO_LARGE = "file_too_large", "A file is larger than its kind may be."
    FILE_UNREADABLE = "file_unreadable", "A file cannot be read."
    FILE_CHANGED_MEANWHILE = "file_changed_meanwhile", "A file changed while it was checked."
    DIGEST_WRONG = "digest_wrong", "A file is not the one that was signed."

    JSON_NOT_STRICT = "json_not_strict", "A JSON file is not strict JSON."
    JSON_TOO_DEEP = "json_too_deep", "A JSON file is nested too deep."
    ENVELOPE_MALFORMED = "envelope_malformed", "An envelope is not in its one canonical form."
    PAYLOAD_TYPE_UNKNOWN = "payload_type_unknown", "What is signed is no in-toto statement."
    SIGNATURE_COUNT = "signature_count", "An envelope does not have exactly one signature."
    SIGNATURE_WRONG = "signature_wrong", "The signature does not hold."
    KEY_UNKNOWN = "key_unknown", "No member of this hub has the key that signed it."

    PREDICATE_UNKNOWN = "predicate_unknown", "The statement is of a kind that is not known."
    SCHEMA_VERSION_UNKNOWN = "schema_version_unknown", "The format has another version."
    SUBJECTS_WRONG = "subjects_wrong", "The signed list of files is not sorted, or names one twice."
    FIELD_WRONG = "field_wrong", "A field of a statement is missing, unknown, or wrong."
    NAME_NOT_ALLOWED = "name_not_allowed", "A name has characters that names may not have."
    NAME_MISLEADING = "name_misleading", "A name has letters that pass for others, or unseen ones."
    PATH_IN_FIELD = "path_in_field", "A field holds a path."
    KEY_ID_DIFFERS = "key_id_differs", "The manifest names another key than the one that signed it."
    COUNTS_DISAGREE = "counts_disagree", "The counts in the manifest contradict one another."
    SHARD_LIST_WRONG = "shard_list_wrong", "The shards are not numbered without a gap or a repeat."

    AUDIT_MISSING = "audit_missing", "There is no audit."
    AUDIT_OF_ANOTHER_KEY = "audit_of_another_key", "The audit is signed by another key."
    AUDIT_OF_ANOTHER_BUNDLE = "audit_of_another_bundle", "The audit is about another bundle."
    AUDIT_CONTRADICTS_ITSELF = "audit_contradicts_itself", "The audit contradicts itself."
    AUDIT_NOT_PASSED = "audit_not_passed", "The privacy checks of the site did not pass."
    AUDIT_INCOMPLETE = "audit_incomplete", "A privacy check is missing."
    REQUIREMENT_NOT_MET = "requirement_not_met", "The audit does not meet what this hub requires."

    PREVIEW_NOT_PNG = "preview_not_png", "The preview is no PNG."
    PREVIEW_HIDES_DATA = "preview_hides_data", "The preview holds more than a picture."

    HDF5_NOT_HDF5 = "hdf5_not_hdf5", "A shard does not begin as an HDF5 file."
    HDF5_DAMAGED = "hdf5_damaged", "A shard cannot be read as HDF5."
    HDF5_OTHER_OBJECTS = "hdf5_other_objects", "A shard does not hold exactly its two datasets."
    HDF5_LINK = "hdf5_link", "A shard has a soft or external link."
    HDF5_EXTERNAL_STORAGE = "hdf5_external_storage", "A shard keeps its data in another file."
    HDF5_VIRTUAL = "hdf5_virtual", "A shard has a virtual or compact dataset."
    HDF5_TYPE_WRONG = "hdf5_type_wrong", "A dataset has another type than the format's."
    HDF5_SHAPE_WRONG = "hdf5_shape_wrong", "A dataset has another shape than the manifest states."
    HDF5_CAN_GROW = "hdf5_can_grow", "A dataset can grow."
    HDF5_NOT_ALL_THERE = "hdf5_not_all_there", "A dataset states more data than the file holds."
    HDF5_FILTER_NOT_ALLOWED = "hdf5_filter_not_allowed", "A dataset needs a filter or a plug-in."
    HDF5_CHUNKS_NOT_ALLOWED = "hdf5_chunks_not_allowed", "Chunks are too large, or cut tiles."
    HDF5_UNPACKS_TOO_FAR = "hdf5_unpacks_too_far", "A dataset unpacks to far more than it stores."
    HDF5_HIDDEN_BYTES = "hdf5_hidden_bytes", "A shard holds bytes that belong to no tile."
    HDF5_ATTRIBUTE_WRONG = "hdf5_attribute_wrong", "A shard has other attributes than the format's."
    LABEL_UNKNOWN = "label_unknown", "A label names no class."
    LABELS_DISAGREE = "labels_disagree", "The labels are not as many of each class as stated."
    READER_DIED = "reader_died", "The confined process that reads a shard died of it."
    READER_TOO_SLOW = "reader_too_slow", "A shard took too long to read."
    READER_TALKED_NONSENSE = "reader_talked_nonsense", "The confined process answered nonsense."

    KEY_PENDING = "key_pending", "The site of this key is not admitted yet."
    KEY_RETIRED = "key_retired", "The site has replaced this key by another."
    KEY_REVOKED = "key_revoked", "The key, or its site, is revoked."
    KEY_EXPIRED = "key_expired", "The key is older than this hub lets keys become."
    SENT_BY_ANOTHER_SITE = "sent_by_another_site", "It is signed by another site than sent it."
    NAME_OF_ANOTHER_SITE = "name_of_another_site", "Its label reads like another member's name."
    OVER_QUOTA = "over_quota", "It is larger than this hub takes, of one bundle or of one site."
    REPLAYED = "replayed", "The hub has this very bundle, or had it before it was withdrawn."
    SHARDS_HELD_ALREADY = "shards_held_already", "Its shards are those of another accepted bundle."
    SHARDS_WITHDRAWN = "shards_withdrawn", "Its shards are those of a bundle that was withdrawn."

    PICTURES_CONSTANT = "pictures_constant", "Too many tiles are of one colour."
    PICTURES_BLANK = "pictures_blank", "Too many tiles show next to nothing."
    PICTURES_OUT_OF_RANGE = "pictures_out_of_range", "The pixels use next to none of their range."
    PICTURES_REPEATED = "pictures_repeated", "Too many tiles are there more than once."
    PICTURES_ALIKE = "pictures_alike", "Too many tiles are the same but for a little noise."
    PICTURES_HELD_ALREADY = "pictures_held_already", "Next to all tiles are in an accepted cohort."
    PICTURES_OF_ANOTHER_SITE = "pictures_of_another_site", "Another site sent the same tiles."
    PICTURES_WITHDRAWN = "pictures_withdrawn", "Its tiles are those of a cohort that was withdrawn."


def reason_of(error: BundleError) -> Reason:
    """The code of an error that refuses a bundle."""
    return Reason(error.reason)
