"""The first file of a server under test: plants the defect that ASSETWATCH_MUTANT names, if any, then serves."""

from __future__ import annotations

import os

from faults import mutants


def main() -> None:
    """Plant first: what is imported already cannot be changed."""
    mutants.plant(os.environ.get("ASSETWATCH_MUTANT", ""))
    from faults.serving import main as serve  # noqa: PLC0415 - see above

    serve()


if __name__ == "__main__":
    main()
