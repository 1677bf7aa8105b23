"""The Python adapter: serves Impuls' guest protocol for one function.

Run as a program it serves the listening Unix socket at descriptor 3; a zygote imports it, calls
`prepare`, forks, and calls `serve` in the child. `../README.md` describes the protocol. This file
only ties the parts together, because a program's own file is compiled at every start while the
others are read from `__pycache__` when the host has put it there.
"""

import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import spec_from_file_location

HERE = os.path.dirname(os.path.abspath(__file__))
LISTEN_FD = 3

_parts = {}


def part(name):
    """A module beside this one, loaded once and kept out of `sys.modules`, which is the user's."""
    module = _parts.get(name)
    if module is None:
        spec = spec_from_file_location("impuls_" + name, os.path.join(HERE, name + ".py"))
        module = module_from_spec(spec)
        module.part = part
        _parts[name] = module
        spec.loader.exec_module(module)
    return module


def prepare(warm):
    """Loads what serving needs; with `warm` also runs sample calls. Safe to fork afterwards:
    it leaves no thread, no descriptor and no event loop."""
    sys.dont_write_bytecode = True
    part("server")
    if warm:
        part("rehearse").rehearse()


def serve(listen_fd):
    """Serves the listening socket until the host is gone. Never returns: it ends the process."""
    for name in ("shim", "__main__"):
        module = sys.modules.get(name)
        if module is not None and getattr(module, "part", None) is part:
            _parts[name] = module
            del sys.modules[name]
    if "__main__" not in sys.modules:
        sys.modules["__main__"] = type(sys)("__main__")
    part("server").Server(listen_fd).run()


def main():
    prepare("--warm" in sys.argv[1:])
    serve(LISTEN_FD)


if __name__ == "__main__":
    main()
