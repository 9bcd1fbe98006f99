"""Read PyTorch's pickled files without running anything that is in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from pixcell_share.errors import WeightsError, WeightsMissingError

_ZIP = b"PK"
_WITHOUT_CODE = (
    "do not load it here: on a machine without patient data, save its tensors alone with "
    "torch.save({'state_dict': torch.load(FILE, weights_only=False)['state_dict']}, NEW_FILE)"
)


def read_pickled(path: Path) -> Any:
    """The content of a ``.ckpt``, ``.pth`` or ``.pt`` file, on the CPU, mapped where possible.

    Tensors, numbers, texts and containers of them are read; anything else is refused, since a
    pickle may name any function to be called (``torch.load(weights_only=True)``).

    Raises:
        WeightsMissingError: there is no such file.
        WeightsError: it is damaged, or holds more than tensors and plain values.
    """
    try:
        with path.open("rb") as stream:
            mapped = stream.read(2) == _ZIP  # the form before PyTorch 1.6 cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path} is missing", "name the file itself") from error
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "global" not in str(error):
            raise _damaged(path, error) from error
        raise WeightsError(
            f"{path} holds code beside its tensors: {_first_line(error)}", _WITHOUT_CODE
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, IndexError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> WeightsError:
    return WeightsError(
        f"{path} is damaged or no PyTorch file: {_first_line(error)}",
        "get the file again; an interrupted download is the usual cause",
    )


def _first_line(error: BaseException) -> str:
    """The line that names the offender; torch's message goes on for a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line]
    return (named or lines or [type(error).__name__])[0]
