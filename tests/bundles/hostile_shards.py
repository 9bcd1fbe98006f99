"""Hostile shards by name: how to make each, and the words and the code that it is refused with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z

from pixcell_share.bundles import Fault
from tests.bundles.forging import TILE_PX

SHARD = "shard-00000.h5"
COUNT = 6
SHAPE = (COUNT, TILE_PX, TILE_PX, 3)
CHUNK = (1, TILE_PX, TILE_PX, 3)
Edit = Callable[[h5py.File], object]


def _replace(name: str, make: Edit) -> Edit:
    """Remove the dataset ``name``, then make something else in its place."""

    def edit(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        make(file)
        with suppress(KeyError, OSError):  # a link that leads nowhere
            file[name].attrs.update(attributes)

    return edit


def _soft_link(file: h5py.File) -> None:
    file.move("images", "images2")
    file["images"] = h5py.SoftLink("/images2")


def _external_link(file: h5py.File) -> None:
    file["images"] = h5py.ExternalLink("shard-00001.h5", "/images")


def _external_storage(file: h5py.File) -> None:
    file.create_dataset("images", SHAPE, "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File) -> None:
    settings, space = h5p.create(h5p.DATASET_CREATE), h5s.create_simple(SHAPE)
    settings.set_obj_track_times(False)
    settings.set_virtual(space, b"shard-00001.h5", b"images", space)
    h5d.create(file.id, b"images", h5t.STD_U8LE, space, settings)


def _nothing_stored(shape: tuple[int, ...], **arguments: Any) -> Edit:
    return lambda file: file.create_dataset("images", shape, "u1", **arguments)


def _compact(file: h5py.File) -> None:
    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_obj_track_times(False)
    settings.set_layout(h5d.COMPACT)
    space = h5s.create_simple((COUNT,))
    h5d.create(file.id, b"labels", h5t.STD_I64LE, space, settings)
    file["labels"][:] = 0


def _typed(name: str, dtype: Any) -> Edit:
    shape = SHAPE if name == "images" else (COUNT,)
    return lambda file: file.create_dataset(name, data=np.zeros(shape, dtype))


def _filled(**arguments: Any) -> Edit:
    return lambda file: file.create_dataset(
        "images", data=np.zeros(SHAPE, "u1"), chunks=CHUNK, **arguments
    )


def _deflated_twice(file: h5py.File) -> None:
    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_obj_track_times(False)
    settings.set_chunk(CHUNK)
    settings.set_deflate(1)
    settings.set_deflate(1)
    h5d.create(file.id, b"images", h5t.STD_U8LE, h5s.create_simple(SHAPE), settings)
    file["images"][:] = np.random.default_rng(0).integers(0, 256, SHAPE)


def _plug_in(file: h5py.File) -> None:
    """Chunks for Zstandard, a filter that HDF5 would load a library for."""
    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_obj_track_times(False)
    settings.set_chunk(CHUNK)
    settings.set_filter(32015, h5z.FLAG_OPTIONAL, (3,))
    data = h5d.create(file.id, b"images", h5t.STD_U8LE, h5s.create_simple(SHAPE), settings)
    for row in range(COUNT):
        data.write_direct_chunk((row, 0, 0, 0), b"\x28\xb5\x2f\xfd" + bytes(600))


def _group(file: h5py.File) -> None:
    file.create_group("images")


def _vlen_attribute(file: h5py.File) -> None:
    del file["labels"].attrs["classes"]
    file["labels"].attrs["classes"] = np.array(["normal", "tumour"], dtype=h5py.string_dtype())


def _object_reference(file: h5py.File) -> None:
    file["labels"].attrs["classes"] = np.array([file.ref, file.ref], dtype=h5py.ref_dtype)


def _hidden_bytes(file: h5py.File) -> None:
    """Data that no name leads to: written, built over, then unlinked."""
    file.create_dataset("secret", data=np.arange(9_000))
    file.copy("images", "images2")
    del file["secret"], file["images"]
    file.move("images2", "images")


def _hidden_group(file: h5py.File) -> None:
    file.create_group(".hidden").create_dataset("secret", data=np.arange(10))


def _committed_type(file: h5py.File) -> None:
    file["images_type"] = np.dtype("u1")
    kind = file["images_type"]
    file.create_dataset("images", data=np.zeros(SHAPE, "u1"), dtype=kind)
    del file["images_type"]


HOSTILE: dict[str, tuple[Edit, str, Fault]] = {
    "soft link": (_soft_link, "exactly the datasets", Fault.HDF5_OTHER_OBJECTS),
    "soft link alone": (
        _replace("labels", lambda f: f.__setitem__("labels", h5py.SoftLink("/images"))),
        "labels is a link",
        Fault.HDF5_LINK,
    ),
    "dangling soft link": (
        _replace("labels", lambda f: f.__setitem__("labels", h5py.SoftLink("/nowhere"))),
        "labels is a link",
        Fault.HDF5_LINK,
    ),
    "external link": (_replace("images", _external_link), "images is a link", Fault.HDF5_LINK),
    "external storage": (
        _replace("images", _external_storage),
        "in another file",
        Fault.HDF5_EXTERNAL_STORAGE,
    ),
    "virtual dataset": (_replace("images", _virtual), "images is virtual", Fault.HDF5_VIRTUAL),
    "terabyte of nothing": (
        _replace("images", _nothing_stored((2**40 // (3 * TILE_PX**2), *SHAPE[1:]))),
        "not of the shape",
        Fault.HDF5_SHAPE_WRONG,
    ),
    "nothing stored, contiguous": (
        _replace("images", _nothing_stored(SHAPE)),
        "is not all there",
        Fault.HDF5_NOT_ALL_THERE,
    ),
    "nothing stored, chunked": (
        _replace("images", _nothing_stored(SHAPE, chunks=CHUNK)),
        "is not all there",
        Fault.HDF5_NOT_ALL_THERE,
    ),
    "compact labels": (
        _replace("labels", _compact),
        "labels is virtual or compact",
        Fault.HDF5_VIRTUAL,
    ),
    "gzip bomb": (
        _replace("images", _filled(compression="gzip")),
        "more than 64 times",
        Fault.HDF5_UNPACKS_TOO_FAR,
    ),
    "wide chunks": (
        _replace("images", _nothing_stored(SHAPE, chunks=(6, 8, 8, 3), fillvalue=1)),
        "cut through a tile",
        Fault.HDF5_CHUNKS_NOT_ALLOWED,
    ),
    "lzf filter": (
        _replace("images", _filled(compression="lzf")),
        "filter that is not allowed",
        Fault.HDF5_FILTER_NOT_ALLOWED,
    ),
    "scale-offset filter": (
        _replace("images", _filled(scaleoffset=0)),
        "filter that is not",
        Fault.HDF5_FILTER_NOT_ALLOWED,
    ),
    "plug-in filter": (
        _replace("images", _plug_in),
        "filter that is not",
        Fault.HDF5_FILTER_NOT_ALLOWED,
    ),
    "deflated twice": (
        _replace("images", _deflated_twice),
        "applies a filter twice",
        Fault.HDF5_FILTER_NOT_ALLOWED,
    ),
    "can grow": (
        _replace("images", _filled(maxshape=(None, *SHAPE[1:]))),
        "can grow",
        Fault.HDF5_CAN_GROW,
    ),
    "float images": (
        _replace("images", _typed("images", "f4")),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "signed images": (
        _replace("images", _typed("images", "i1")),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "boolean images": (
        _replace("images", _typed("images", bool)),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "float labels with NaN": (
        _replace("labels", lambda f: f.create_dataset("labels", data=np.full(COUNT, np.nan))),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "big-endian labels": (
        _replace("labels", _typed("labels", ">i8")),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "vlen string labels": (
        _replace("labels", lambda f: f.create_dataset("labels", (COUNT,), h5py.string_dtype())),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "compound labels": (
        _replace("labels", lambda f: f.create_dataset("labels", (COUNT,), [("a", "i8")])),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "committed type": (
        _replace("images", _committed_type),
        "another data type",
        Fault.HDF5_TYPE_WRONG,
    ),
    "scalar images": (
        _replace("images", lambda f: f.__setitem__("images", np.uint8(1))),
        "array",
        Fault.HDF5_SHAPE_WRONG,
    ),
    "empty images": (
        _replace("images", lambda f: f.__setitem__("images", h5py.Empty("u1"))),
        "not an array",
        Fault.HDF5_SHAPE_WRONG,
    ),
    "wrong rank": (
        _replace("images", lambda f: f.create_dataset("images", data=np.zeros((6, 9), "u1"))),
        "not of the shape",
        Fault.HDF5_SHAPE_WRONG,
    ),
    "group for dataset": (
        _replace("images", _group),
        "exactly the datasets",
        Fault.HDF5_OTHER_OBJECTS,
    ),
    "missing dataset": (
        lambda f: f.__delitem__("labels"),
        "exactly the datasets",
        Fault.HDF5_OTHER_OBJECTS,
    ),
    "extra dataset": (
        lambda f: f.create_dataset("extra", data=[1]),
        "exactly the datasets",
        Fault.HDF5_OTHER_OBJECTS,
    ),
    "hidden group": (_hidden_group, "exactly the datasets", Fault.HDF5_OTHER_OBJECTS),
    "hidden bytes": (_hidden_bytes, "holds more than its two datasets", Fault.HDF5_HIDDEN_BYTES),
    "attribute on the file": (
        lambda f: f.attrs.__setitem__("host", "x"),
        "attribute on the file",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "attribute on images": (
        lambda f: f["images"].attrs.__setitem__("slide", "p1.svs"),
        "exactly the attribute mpp",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "attribute missing": (
        lambda f: f["images"].attrs.__delitem__("mpp"),
        "exactly the attribute",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "other mpp": (
        lambda f: f["images"].attrs.__setitem__("mpp", 0.25),
        "mpp of images is not the",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "mpp as an array": (
        lambda f: f["images"].attrs.__setitem__("mpp", np.full(1000, 0.5)),
        "not one float64",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "vlen class names": (_vlen_attribute, "fixed-length text", Fault.HDF5_ATTRIBUTE_WRONG),
    "references for class names": (
        _object_reference,
        "fixed-length text",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "other class names": (
        lambda f: f["labels"].attrs.__setitem__("classes", np.array([b"normal", b"tumoor"])),
        "classes of labels is not the manifest's",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "padded class names": (
        lambda f: f["labels"].attrs.__setitem__("classes", np.array([b"normal", b"tumour"], "S99")),
        "classes of labels is not the manifest's",
        Fault.HDF5_ATTRIBUTE_WRONG,
    ),
    "label out of range": (
        lambda f: f["labels"].__setitem__(0, 2),
        "label that names no class",
        Fault.LABEL_UNKNOWN,
    ),
    "negative label": (
        lambda f: f["labels"].__setitem__(0, -1),
        "label that names no class",
        Fault.LABEL_UNKNOWN,
    ),
    "user block": (lambda f: None, "does not begin as an HDF5 file", Fault.HDF5_NOT_HDF5),
    "bytes after the end": (
        lambda f: None,
        "holds more than its two datasets",
        Fault.HDF5_HIDDEN_BYTES,
    ),
}
