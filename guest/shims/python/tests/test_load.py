"""INIT: finding, loading and checking the user's code."""

import os
import sys
import unittest

from host import SHIM, ShimTest

ECHO = "def handler(event, context):\n    return event\n"


class Load(ShimTest):
    def first_reply(self, files, event=None, **settings):
        return self.load(files, **settings).invoke(event).json

    def test_ready_names_the_runtime_and_its_version(self):
        ready = self.sandbox(ECHO).ready.json
        self.assertEqual(ready, {"runtime": "python", "version": "%d.%d.%d" % sys.version_info[:3]})

    def test_init_applies_environment_folder_and_path(self):
        source = (
            "import os, sys\ntop = os.environ['COLOR']\n"
            "def handler(event): return [top, os.getcwd(), sys.path[0], __file__, __name__, sys.argv]\n"
        )
        main = self.load(source, environment={"COLOR": "blue"})
        folder = main.sandbox.code_dir
        file = os.path.join(folder, "index.py")
        self.assertEqual(main.invoke().json, ["blue", folder, folder, file, "index", [file]])

    def test_the_file_part_may_have_slashes_dots_and_packages(self):
        self.assertEqual(self.first_reply({"src/app.py": ECHO}, 1, handler="src/app.handler"), 1)
        self.assertEqual(self.first_reply({"src/app.py": ECHO}, 1, handler="src.app.handler"), 1)
        self.assertEqual(self.first_reply({"my-app.py": ECHO}, 1, handler="my-app.handler"), 1)
        self.assertEqual(self.first_reply({"pkg/__init__.py": ECHO}, 1, handler="pkg.handler"), 1)
        files = {
            "pkg/__init__.py": "",
            "pkg/main.py": "from .part import value\nimport other\ndef handler(event): return [value, other.value, __name__]\n",
            "pkg/part.py": "value = 1\n",
            "other.py": "value = 2\n",
        }
        self.assertEqual(self.first_reply(files, handler="pkg/main.handler"), [1, 2, "pkg.main"])

    def test_a_handler_without_a_file_part_is_in_index_or_in_the_only_file(self):
        self.assertEqual(self.first_reply({"index.py": ECHO, "other.py": ""}, 1, handler="handler"), 1)
        self.assertEqual(self.first_reply({"app.py": ECHO}, 1, handler="handler"), 1)
        error = self.init_error({"one.py": ECHO, "two.py": ECHO}, handler="handler")
        self.assertEqual(error["kind"], "handler")
        self.assertIn("several modules and no index.py", error["message"])

    def test_a_module_may_have_the_name_of_a_standard_one(self):
        for name in ("json", "types", "asyncio", "server", "shim", "code", "time"):
            for warm in (False, True):
                main = self.load({name + ".py": ECHO}, warm, handler=name + ".handler")
                self.assertEqual(main.invoke({"a": 1}).json, {"a": 1})

    def test_scoped_code_is_called_by_its_arity(self):
        self.assertEqual(self.first_reply("def handler(event): return event['a']", {"a": 1}, contract="scoped", handler="handler"), 1)
        source = "def main(event, context): return context.function_name"
        self.assertEqual(self.first_reply(source, contract="scoped", handler="main"), "hello")

    def test_a_syntax_error_has_its_file_and_line(self):
        error = self.init_error("def handler(event):\n    x = = 1\n")
        self.assertEqual((error["kind"], error["type"], error["file"], error["line"]), ("syntax", "SyntaxError", "index.py", 2))
        self.assertIn("invalid syntax", error["message"])
        error = self.init_error({"index.py": "import lib.part", "lib/part.py": "\n\n  )"})
        self.assertEqual((error["kind"], error["file"], error["line"]), ("syntax", "lib/part.py", 3))
        error = self.init_error("if True:\nx = 1\n")
        self.assertEqual((error["kind"], error["type"], error["line"]), ("syntax", "IndentationError", 2))

    def test_a_syntax_error_that_running_code_raises_is_not_the_codes_own(self):
        error = self.init_error("compile('x = =', 'text', 'exec')")
        self.assertEqual((error["kind"], error["type"]), ("init", "SyntaxError"))

    def test_a_missing_file_is_named_with_what_was_looked_for(self):
        error = self.init_error(ECHO, handler="src/app.handler")
        self.assertEqual(error["kind"], "handler")
        self.assertIn('"src/app.handler"', error["message"])
        self.assertIn("looked for src/app.py, src/app/__init__.py", error["message"])

    def test_a_handler_outside_the_code_is_refused(self):
        self.assertIn("outside", self.init_error(ECHO, handler="../x.handler")["message"])
        self.assertIn("no function name", self.init_error(ECHO, handler="index.")["message"])

    def test_a_missing_handler_is_answered_with_what_the_module_defines(self):
        error = self.init_error("def main(event): pass\nLIMIT = 5\ndef _hidden(): pass\n")
        self.assertEqual(error["kind"], "handler")
        self.assertEqual(error["message"], 'index.py does not define "handler"; it defines main')
        error = self.init_error("handler = 5")
        self.assertEqual(error["message"], '"handler" of index.py is not a function but int; it defines no function')

    def test_an_error_in_the_top_level_has_type_message_and_stack(self):
        error = self.init_error("class Odd(Exception): pass\n\nraise Odd('no luck')\n")
        self.assertEqual((error["kind"], error["type"], error["message"]), ("init", "Odd", "no luck"))
        self.assertIn('index.py", line 3', error["stack"])
        self.assertNotIn("shims", error["stack"])
        self.assertNotIn("frozen", error["stack"])
        error = self.init_error("import not_there")
        self.assertEqual((error["kind"], error["type"]), ("init", "ModuleNotFoundError"))

    def test_sys_exit_in_the_top_level_ends_the_process_after_its_logs(self):
        for statement, code in (("sys.exit(7)", 7), ("sys.exit()", 0), ("sys.exit('why')", 1), ("raise SystemExit(3)", 3)):
            sandbox = self.sandbox("import sys\nprint('leaving', end='')\n" + statement)
            sandbox.main.send(sandbox.init_frame())
            sandbox.main.until_closed()
            self.assertEqual(sandbox.wait()[0], code)
            self.assertIn(("stdout", "leaving"), sandbox.main.logs[0])

    def test_the_shim_is_invisible_to_user_code(self):
        source = (
            "import os, sys\nimport __main__\n"
            "seen = [vars(__main__).get('__file__'), [m for m in sys.modules if 'impuls' in m or m in ('shim', 'warm', 'server')],\n"
            "        sorted(os.environ), [p for p in sys.path if 'shims' in p], os.get_inheritable(3)]\n"
            "def handler(event): return seen\n"
        )
        for warm in (False, True):
            seen = self.load(source, warm).invoke().json
            self.assertEqual(seen[:2] + seen[3:], [None, [], [], False])
            self.assertEqual([name for name in seen[2] if name != "LC_CTYPE"], ["HOME", "LANG", "PATH", "TMPDIR"])

    def test_children_do_not_inherit_the_sockets(self):
        source = "import os, subprocess\ndef handler(event):\n    return subprocess.run(['ls', '/proc/self/fd'], capture_output=True, close_fds=False, text=True).stdout.split()\n"
        self.assertEqual(self.load(source).invoke().json[:3], ["0", "1", "2"])
        self.assertEqual(len(self.load(source).invoke().json), 4)  # `ls` itself has opened one

    def test_a_zygote_can_import_prepare_fork_and_serve(self):
        zygote = (
            "import os, sys\nsys.path.insert(0, %r)\nimport shim\nshim.prepare(True)\nsys.path.pop(0)\n"
            "assert sorted(os.listdir('/proc/self/task')) == [str(os.getpid())]\n"
            "pid = os.fork()\n"
            "if pid == 0:\n    shim.serve(3)\nos.close(3)\nsys.exit(os.waitpid(pid, 0)[1])\n" % os.path.dirname(SHIM)
        )
        source = (
            "import sys, __main__\nimport asyncio\n"
            "async def handler(event):\n    await asyncio.sleep(0)\n    print('in')\n    return ['shim' in sys.modules, event]\n"
        )
        for concurrency in (1, 4):
            sandbox = self.sandbox(source, command=[sys.executable, "-I", "-c", zygote])
            sandbox.init(concurrency=concurrency)
            reply = sandbox.main.invoke({"a": [True, None]})
            self.assertEqual((reply.json, reply.logs), ([False, {"a": [True, None]}], [("stdout", "in")]))
            sandbox.main.socket.close()
            self.assertEqual(sandbox.wait(), (0, ""))


if __name__ == "__main__":
    unittest.main()
