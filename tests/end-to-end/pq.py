"""pq.py - a connection that stays open, for tests that commit often: libpq itself, called from here.

psql would be a process for every statement.  Calls let other threads run meanwhile.
"""
import ctypes

_pq = ctypes.CDLL("libpq.so.5")
for _name, _result, _arguments in (
        ("PQconnectdb", ctypes.c_void_p, [ctypes.c_char_p]), ("PQfinish", None, [ctypes.c_void_p]),
        ("PQstatus", ctypes.c_int, [ctypes.c_void_p]), ("PQerrorMessage", ctypes.c_char_p, [ctypes.c_void_p]),
        ("PQexec", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]), ("PQclear", None, [ctypes.c_void_p]),
        ("PQresultStatus", ctypes.c_int, [ctypes.c_void_p]), ("PQntuples", ctypes.c_int, [ctypes.c_void_p]),
        ("PQnfields", ctypes.c_int, [ctypes.c_void_p]),
        ("PQgetvalue", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]),
        ("PQsetNoticeProcessor", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p])):
    getattr(_pq, _name).restype = _result
    getattr(_pq, _name).argtypes = _arguments

_CONNECTION_OK = 0
_RESULTS_OK = (1, 2)  # a command, or rows
_quiet = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)(lambda _context, _words: None)


class Lost(Exception):
    """The server is away; what was running may have happened or not."""


class Connection:
    def __init__(self, conninfo):
        self.conn = _pq.PQconnectdb(f"{conninfo} connect_timeout=10".encode())
        if _pq.PQstatus(self.conn) != _CONNECTION_OK:
            words = self._words()
            self.close()
            raise Lost(words)
        _pq.PQsetNoticeProcessor(self.conn, _quiet, None)

    def _words(self):
        return _pq.PQerrorMessage(self.conn).decode(errors="replace").strip()

    def run(self, text):
        """The rows of the last statement, as lists of texts.  A statement that the server refuses is an AssertionError."""
        result = _pq.PQexec(self.conn, text.encode())
        try:
            if _pq.PQresultStatus(result) in _RESULTS_OK:
                return [[_pq.PQgetvalue(result, row, column).decode() for column in range(_pq.PQnfields(result))]
                        for row in range(_pq.PQntuples(result))]
            if _pq.PQstatus(self.conn) != _CONNECTION_OK:
                raise Lost(self._words())
            raise AssertionError(f"{text}: {self._words()}")
        finally:
            _pq.PQclear(result)

    def close(self):
        if self.conn:
            _pq.PQfinish(self.conn)
            self.conn = None
