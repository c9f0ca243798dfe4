"""``python -m accel`` is the ``accel`` command."""

from accel.cli import main

main(prog_name="accel")
