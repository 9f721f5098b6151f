"""tap.py - how a test script in Python reads: a function that is a sentence, found in order, told as TAP.

    from tap import test, skip, run

    @test
    def arrows_point_down_only():
        assert not broken, "base/buf.c includes server/job/job.h"

    run()

An assert that does not hold, or any other exception, fails the test; its text, or where it was, is printed as a comment.
"""
import sys
import traceback

_tests = []


class Skipped(Exception):
    pass


def test(function):
    _tests.append(function)
    return function


def skip(why):
    raise Skipped(why)


def run():
    failed = 0
    print(f"1..{len(_tests)}", flush=True)
    for number, function in enumerate(_tests, 1):
        try:
            function()
            print(f"ok {number} - {function.__name__}", flush=True)
        except Skipped as why:
            print(f"# skipped: {why}\nok {number} - {function.__name__} # SKIP {why}", flush=True)
        except Exception as problem:
            failed += 1
            text = isinstance(problem, AssertionError) and str(problem) or traceback.format_exc()
            for line in text.splitlines():
                print(f"# {line}")
            print(f"not ok {number} - {function.__name__}", flush=True)
    sys.exit(1 if failed else 0)
