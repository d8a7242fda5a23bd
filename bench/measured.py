"""Run a command from a small process and say, as JSON, how long it took and its peak memory.

Linux counts the memory of the process that forked into a child's peak
(``ru_maxrss``), so a test runner with its libraries loaded can not be the one
that forks. Run with ``python -I -S``, this adds about 10 MB as the least peak.

What the command prints goes to the file that ``MEASURED_OUTPUT`` names, or nowhere.
"""

import json
import os
import sys
import time

begin = time.perf_counter()
child = os.fork()
if not child:
    output = os.environ.get("MEASURED_OUTPUT", os.devnull)
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - begin
measured = {
    "seconds": seconds,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
    "peak_bytes": usage.ru_maxrss * 1024,
}
print(json.dumps(measured))
sys.exit(os.waitstatus_to_exitcode(status))
