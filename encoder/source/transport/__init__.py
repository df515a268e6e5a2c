"""MPEG transport streams, read and rewritten packet by packet (ISO/IEC 13818-1).

libavformat hands out the streams of all programmes of a file alike, begins new ones where a
programme moves to other PIDs, and passes on the clock as it is. These modules find one programme
and its streams over the whole file, and write a stream that holds just those, on one clock.
"""
