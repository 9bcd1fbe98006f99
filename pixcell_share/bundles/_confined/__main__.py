"""Start the confined process without importing pixcell_share, whose imports it does not need."""

import sys
from pathlib import Path
from types import ModuleType

_NAME = "pixcell_share.bundles._confined"
_package = ModuleType(_NAME)
_package.__path__ = [str(Path(__file__).parent)]
sys.modules[_NAME] = _package

from pixcell_share.bundles._confined.process import main  # noqa: E402

main()
