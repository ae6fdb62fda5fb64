"""Unlock a study if its Snakemake was killed: ``python -m study.tools.release_lock config.yaml``."""

import sys

from study.config import reader
from study.files import lock


def main(config: str) -> int:
    try:
        study = str(reader.read(config).values.get("study"))
    except reader.ReadError as error:
        print(error, file=sys.stderr)
        return 1
    if not lock.is_stale(study):
        return 0  # nothing is locked, or Snakemake itself tells of the lock
    print(
        f"The last run of the study {study} was killed and left its lock behind. Unlocking; what is finished is kept."
    )
    lock.release(study)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
