"""What can be wrong with a bundle: codes for programs, beside the words for people."""

from __future__ import annotations

from enum import StrEnum

from pixcell_share.errors import SettingsError


class Fault(StrEnum):
    """Why a bundle is refused; the code of a `BundleError`. A code never changes its meaning."""

    # The folder and its files.
    NOT_A_FOLDER = "not_a_folder"
    NOT_A_PLAIN_FILE = "not_a_plain_file"
    FILE_MISSING = "file_missing"
    FILE_EXTRA = "file_extra"
    FILE_TOO_LARGE = "file_too_large"
    FILE_UNREADABLE = "file_unreadable"
    FILE_CHANGED_MEANWHILE = "file_changed_meanwhile"
    DIGEST_WRONG = "digest_wrong"
    # JSON and envelopes.
    JSON_NOT_STRICT = "json_not_strict"
    JSON_TOO_DEEP = "json_too_deep"
    ENVELOPE_MALFORMED = "envelope_malformed"
    PAYLOAD_TYPE_UNKNOWN = "payload_type_unknown"
    SIGNATURE_COUNT = "signature_count"
    SIGNATURE_WRONG = "signature_wrong"
    KEY_UNKNOWN = "key_unknown"
    # Statements.
    PREDICATE_UNKNOWN = "predicate_unknown"
    SCHEMA_VERSION_UNKNOWN = "schema_version_unknown"
    SUBJECTS_WRONG = "subjects_wrong"
    FIELD_WRONG = "field_wrong"
    NAME_NOT_ALLOWED = "name_not_allowed"
    NAME_MISLEADING = "name_misleading"
    PATH_IN_FIELD = "path_in_field"
    KEY_ID_DIFFERS = "key_id_differs"
    COUNTS_DISAGREE = "counts_disagree"
    SHARD_LIST_WRONG = "shard_list_wrong"
    # The audit.
    AUDIT_MISSING = "audit_missing"
    AUDIT_OF_ANOTHER_KEY = "audit_of_another_key"
    AUDIT_OF_ANOTHER_BUNDLE = "audit_of_another_bundle"
    AUDIT_CONTRADICTS_ITSELF = "audit_contradicts_itself"
    AUDIT_NOT_PASSED = "audit_not_passed"
    AUDIT_INCOMPLETE = "audit_incomplete"
    REQUIREMENT_NOT_MET = "requirement_not_met"
    # The preview.
    PREVIEW_NOT_PNG = "preview_not_png"
    PREVIEW_HIDES_DATA = "preview_hides_data"
    # The shards.
    HDF5_NOT_HDF5 = "hdf5_not_hdf5"
    HDF5_DAMAGED = "hdf5_damaged"
    HDF5_OTHER_OBJECTS = "hdf5_other_objects"
    HDF5_LINK = "hdf5_link"
    HDF5_EXTERNAL_STORAGE = "hdf5_external_storage"
    HDF5_VIRTUAL = "hdf5_virtual"
    HDF5_TYPE_WRONG = "hdf5_type_wrong"
    HDF5_SHAPE_WRONG = "hdf5_shape_wrong"
    HDF5_CAN_GROW = "hdf5_can_grow"
    HDF5_NOT_ALL_THERE = "hdf5_not_all_there"
    HDF5_FILTER_NOT_ALLOWED = "hdf5_filter_not_allowed"
    HDF5_CHUNKS_NOT_ALLOWED = "hdf5_chunks_not_allowed"
    HDF5_UNPACKS_TOO_FAR = "hdf5_unpacks_too_far"
    HDF5_HIDDEN_BYTES = "hdf5_hidden_bytes"
    HDF5_ATTRIBUTE_WRONG = "hdf5_attribute_wrong"
    LABEL_UNKNOWN = "label_unknown"
    LABELS_DISAGREE = "labels_disagree"
    READER_DIED = "reader_died"
    READER_TOO_SLOW = "reader_too_slow"
    READER_TALKED_NONSENSE = "reader_talked_nonsense"


class UnfitError(SettingsError):
    """A value that no bundle may state: a wrong setting where it is written, a fault where read."""

    def __init__(self, cause: str, remedy: str, fault: Fault = Fault.FIELD_WRONG) -> None:
        super().__init__(cause, remedy)
        self.fault = fault
