"""Unlock a study whose Snakemake was killed, and only then: ``python workflow/scripts/release_lock.py config.yaml``."""

import sys

import study_lock
import study_yaml


def main(config: str) -> int:
    try:
        study = str(study_yaml.read(config).values.get("study"))
    except study_yaml.ReadError as error:
        print(error, file=sys.stderr)
        return 1
    if not study_lock.is_stale(study):
        return 0  # nothing is locked, or a lock that Snakemake itself has to speak about
    print(
        f"The last run of the study {study} was killed and left its lock behind. Unlocking; what is finished is kept."
    )
    study_lock.release(study)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
