"""Ops on files and memory of the host: asynchronous reads and writes, page-locked memory."""
