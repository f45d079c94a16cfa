"""What :mod:`measure_speed` compares the library with."""
