"""Loads the user's module once, finds the handler in it, and describes what goes wrong.

Loading follows the `module` and `scoped` contracts, which are the same for Python but for the
words. Errors may come with methods that raise: describing them must not.
"""

import os
import sys
import time
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import spec_from_file_location
from types import FunctionType, MethodType

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
MAX_TEXT = 64 << 10  # characters of a message or stack
MAX_LISTED = 20
CO_VARARGS, CO_COROUTINE = 0x04, 0x80


class HandlerError(Exception):
    """A handler string that leads nowhere; its message is shown to the user as it is."""


def load(settings):
    """The handler that INIT names. Raises HandlerError, or whatever the user's top level raises."""
    code_dir = settings["code_dir"]
    environment = settings.get("environment") or {}
    os.environ.update({key: str(value) for key, value in environment.items()})
    if "TZ" in environment:
        time.tzset()
    os.chdir(code_dir)
    sys.path.insert(0, code_dir)
    # The code appeared after the interpreter had looked: what it did not find then (folders of PYTHONPATH) may
    # be there now.
    for path in [path for path, finder in sys.path_importer_cache.items() if finder is None]:
        del sys.path_importer_cache[path]
    handler = str(settings["handler"])
    file, module_name, name = locate(code_dir, handler)
    sys.argv[:] = [file]
    module = import_file(file, module_name)
    found = getattr(module, name, None)
    if callable(found):
        return found
    relative = os.path.relpath(file, code_dir)
    if hasattr(module, name):
        problem = '"%s" of %s is not a function but %s' % (name, relative, type(found).__name__)
    else:
        problem = '%s does not define "%s"' % (relative, name)
    raise HandlerError("%s; it defines %s" % (problem, listing(module)))


def locate(code_dir, handler):
    """Splits the handler string at its last dot: the file, the module's name, the function's."""
    stem, dot, name = handler.rpartition(".")
    if not name or (dot and not stem):
        raise HandlerError('handler "%s" has no function name; write it as file.function' % handler)
    stem = os.path.normpath(stem) if stem else default_stem(code_dir, handler)
    if stem.startswith((os.sep, os.pardir)):
        raise HandlerError('handler "%s" points outside the function\'s code' % handler)
    looked_for = []
    for path in dict.fromkeys((stem, stem.replace(".", os.sep))):  # also `package.module`
        for candidate in (path + ".py", os.path.join(path, "__init__.py")):
            looked_for.append(candidate)
            file = os.path.join(code_dir, candidate)
            if os.path.isfile(file):
                return file, path.replace(os.sep, "."), name
    raise HandlerError(
        'handler "%s" names a file that does not exist; looked for %s' % (handler, ", ".join(looked_for))
    )


def default_stem(code_dir, handler):
    """The file of a handler without a file part: `index`, or the only module at the top."""
    names = [entry[:-3] for entry in os.listdir(code_dir) if entry.endswith(".py")]
    if "index" in names:
        return "index"
    if len(names) == 1:
        return names[0]
    raise HandlerError(
        'handler "%s" names no file, and the code has %s modules and no index.py; write it as file.function'
        % (handler, "several" if names else "no")
    )


def import_file(file, name):
    if "." in name and not file.endswith(name + ".py"):
        __import__(name)
        return sys.modules[name]
    locations = [os.path.dirname(file)] if file.endswith("__init__.py") else None
    spec = spec_from_file_location(name, file, submodule_search_locations=locations)
    module = module_from_spec(spec)
    # A name that the interpreter itself has already loaded (`types.py`) stays the interpreter's.
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return sys.modules[name] if getattr(sys.modules.get(name), "__spec__", None) is spec else module


def listing(module):
    names = [key for key, value in vars(module).items() if not key.startswith("_") and callable(value)]
    if not names:
        return "no function"
    more = " and %d more" % (len(names) - MAX_LISTED) if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def signature(handler):
    """Whether the handler takes the context, and whether it is a coroutine function."""
    function, bound = handler, 0
    if type(function) is MethodType:
        function, bound = function.__func__, 1
    if type(function) is not FunctionType or hasattr(function, "__wrapped__"):
        return inspected(handler)
    code = function.__code__
    takes_context = code.co_argcount - bound != 1 or bool(code.co_flags & CO_VARARGS)
    return takes_context, bool(code.co_flags & CO_COROUTINE)


def inspected(handler):
    """The same for classes, partial functions and decorated ones."""
    import inspect

    call = getattr(handler, "__call__", handler)
    is_coroutine = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
    if isinstance(handler, type):
        is_coroutine = False
    try:
        parameters = inspect.signature(handler, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return True, is_coroutine
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True, is_coroutine
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) != 1, is_coroutine


def context_class(base, settings):
    """The class of the handler's contexts; what is the same for all calls is the class's."""
    name, version = str(settings["function_name"]), str(settings["function_version"])
    suffix = "" if version == "$LATEST" else ":" + version
    stream = str(settings.get("function_id", "")).replace("-", "")
    members = {
        "function_name": name,
        "function_version": version,
        "memory_limit_in_mb": str(settings["memory_mb"]),
        "invoked_function_arn": "arn:aws:lambda:local:000000000000:function:" + name + suffix,
        "log_group_name": "/impuls/" + name,
        "log_stream_name": "%s/[%s]%s" % (time.strftime("%Y/%m/%d", time.gmtime()), version, stream),
        "__module__": "impuls",
    }
    return type("Context", (base,), members)


def explain(error, code_dir):
    """The INIT_ERR payload for whatever loading ran into."""
    if isinstance(error, HandlerError):
        return {"kind": "handler", "type": "HandlerError", "message": str(error)}
    failure = {"kind": "init"}
    failure.update(describe(error))
    # Code given to `compile` or `exec` has no file: that it does not parse is a run-time error.
    if isinstance(error, SyntaxError) and isinstance(error.filename, str) and os.path.isfile(error.filename):
        inside = os.path.join(code_dir, "")
        file = error.filename
        failure["kind"] = "syntax"
        failure["message"] = str(error.msg)
        failure["file"] = file[len(inside) :] if file.startswith(inside) else file
        if error.lineno is not None:
            failure["line"] = error.lineno
    return failure


def describe(error):
    """`{type, message, stack}` of an exception, without our own frames."""
    return {"type": type(error).__name__, "message": text_of(error), "stack": stack_of(error)}


def text_of(error):
    try:
        return cut(str(error))
    except BaseException:
        return "(a message that cannot be shown)"


def stack_of(error):
    try:
        import traceback

        trace = error.__traceback__
        while trace is not None and is_ours(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        return cut("".join(traceback.format_exception(type(error), error, trace)).rstrip("\n"))
    except BaseException:
        return ""


def is_ours(file):
    return file.startswith((HERE, "<frozen importlib"))


def cut(text):
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
