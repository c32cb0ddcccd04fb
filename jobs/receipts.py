"""What each build step made, by hash: so that what is sealed is what the steps wrote, and nothing that came between.

A receipt is scratch under work/: a step that is run again writes it anew, and a release without one is sealed all the same.
"""

import json
from collections.abc import Sequence

from contracts import durable
from contracts.release import file_entry
from contracts.settings import Settings
from jobs.runtime import log


def write(settings: Settings, release_id: str, step: str, files: Sequence[str]) -> None:
    """Says that `step` made these files of the release, as they are now; those that are not there are left out."""
    folder, root = settings.work / release_id, settings.releases / release_id
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: file_entry(root / name).sha256 for name in files if (root / name).is_file()}
    durable.write(folder / f"{step}.receipt.json", json.dumps(made, indent=1, sort_keys=True))


def changed(settings: Settings, release_id: str) -> dict[str, str]:
    """File -> the step that made another one; empty where every file is as its step left it, or no step left a receipt."""
    found, receipts = {}, sorted((settings.work / release_id).glob("*.receipt.json"))
    if not receipts:
        log.warning("release %s: the build steps left no receipts (work/ was cleared): its files are not compared with them", release_id)
    for path in receipts:
        for name, sha in json.loads(path.read_text()).items():
            place = settings.releases / release_id / name
            if not place.is_file() or file_entry(place).sha256 != sha:
                found[name] = path.name.removesuffix(".receipt.json")
    return found
