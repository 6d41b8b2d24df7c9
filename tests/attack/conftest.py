# SPDX-License-Identifier: Apache-2.0
"""Hostile programs use the fixtures and helpers of tests/run."""
import importlib.util
import pathlib
import sys

RUN = pathlib.Path(__file__).resolve().parents[1] / 'run'
sys.path.insert(0, str(RUN))

_spec = importlib.util.spec_from_file_location('run_conftest', RUN / 'conftest.py')
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
marker = _module.marker
background = _module.background
no_core_files = _module.no_core_files
