"""A pytest plugin, -p faults.planted: plants the defect that ASSETWATCH_MUTANT names before any test is collected."""

from __future__ import annotations

import os

from faults import mutants

mutants.plant(os.environ.get("ASSETWATCH_MUTANT", ""))
