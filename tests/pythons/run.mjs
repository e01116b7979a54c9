// Runs the tests of contract, wire and aggregator on a newer CPython, in WebAssembly: node run.mjs BUILD_DIR VERSION
//
// Everything that needs no thread, no second process and no compiled package. BUILD_DIR holds node_modules (package.json)
// and wheels (requirements.txt).

import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const TESTS = [
  "tests/leyline/test_contract.py",
  "tests/leyline/test_payload.py",
  "tests/leyline/test_frozen.py",
  "tests/leyline/test_reading.py",
  "tests/leyline/test_codec.py",
  "tests/leyline/test_wire.py",
  "tests/leyline/test_event.py",
  "tests/leyline/test_errors.py",
  "tests/leyline/test_field_docs.py",
  "tests/leyline/test_validate.py",
  "tests/golden/test_golden.py",
  "tests/typing/test_accepted.py",
  "tests/karn/test_aggregator.py",
  "tests/karn/test_aggregator_model.py",
];

const [build, version] = process.argv.slice(2);
// There are no threads and no second process here.
const NOT_HERE = [
  "tests/leyline/test_event.py::test_ids_are_unique_across_threads",
  "tests/leyline/test_event.py::test_a_forked_child_makes_ids_of_its_own",
  "tests/leyline/test_event.py::test_a_spawned_process_makes_ids_of_its_own",
  "tests/leyline/test_event.py::test_ids_do_not_follow_the_script_s_random_seed",
  "tests/karn/test_aggregator.py::test_a_reader_in_another_thread_sees_only_whole_events",
];
// On 3.14 this build of the interpreter itself dies of deep recursion: dropping a plain list 100,000 deep is enough.
const TOO_DEEP_HERE = version === "3.14" ? ["-k", "not bomb and not no_depth_is_too_deep"] : [];

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { loadPyodide } = createRequire(path.resolve(build, "package.json"))(`pyodide-${version}`);

const python = await loadPyodide();
for (const [name, root] of Object.entries({ "/repository": repository, "/wheels": path.resolve(build, "wheels") })) {
  python.FS.mkdir(name);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, name);
}
python.globals.set("arguments", python.toPy([...TESTS, ...TOO_DEEP_HERE, ...NOT_HERE.map((test) => `--deselect=${test}`)]));
python.globals.set("version", version);
process.exitCode = python.runPython(`
import os, pathlib, platform, sys, zipfile

assert platform.python_version().startswith(version), platform.python_version()
for wheel in pathlib.Path("/wheels").glob("*.whl"):
    zipfile.ZipFile(wheel).extractall("/site")
sys.path[:0] = ["/repository/src", "/site"]
sys.dont_write_bytecode = True
os.chdir("/repository")
import pytest

print(f"CPython {sys.version}")
int(pytest.main(["-c", "tests/pythons/pytest.ini", "--rootdir", "/repository", "-q", *arguments]))
`);
