# SPDX-License-Identifier: Apache-2.0
"""Which tests run, where emulated machines share them (SANDLOCK_SHARE, tests/vm/vm.py): nobody's are lost,
since the shares root:K/N are all tests between them, and user:K/N those that may depend on who runs them:
`tests/attack`, whatever asks for its uid, and every fourth of the others."""
import inspect
import os

USER_SHARE = 4


def asks_for_uid(item):
    """Does the test or one of its fixtures?"""
    fixtures = [f.func for known in item._fixtureinfo.name2fixturedefs.values() for f in known]
    return any('uid(' in inspect.getsource(function) for function in (item.function, *fixtures)
               if '/tests/' in function.__code__.co_filename)


def pytest_collection_modifyitems(config, items):
    """Deselects the others' tests."""
    share = os.environ.get('SANDLOCK_SHARE')
    if not share:
        return
    who, _, part = share.rpartition(':')
    k, n = map(int, part.split('/'))
    theirs, seen = [], {}
    for item in items:
        i = seen[item.path] = seen.get(item.path, -1) + 1
        if who != 'user' or 'attack' in item.nodeid or i % USER_SHARE == 0 or asks_for_uid(item):
            theirs.append(item)
    kept = theirs[k::n]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
