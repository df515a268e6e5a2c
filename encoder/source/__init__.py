"""Sources: what a file holds, and how its frames are read exactly.

:mod:`encoder.source.planning` plans a source with what these modules find, in this order;
:mod:`encoder.source.sandbox` does the same in a child process. The plan is a ``ReferenceSource``
(:mod:`encoder.source.reference`), which also builds the graph that reads its frames.

- ``opening`` opens the file under allow-lists, and tells its streams apart.
- ``completeness`` compares what the file promises with what is there.
- ``probing`` describes it by its headers and its first picture, as a ``SourceInfo``, or refuses it.
- ``timestamps`` makes a copy where frames cannot be found by time; ``transport`` rewrites transport
  streams for it.
- ``index`` lists every frame in one demux pass, on which ``captions`` collects the text.
- ``timeline`` gives the title its two ends, and its frames places at a constant rate.
- ``scan`` tells by flags and pictures which frames are deinterlaced.
- ``sound`` tells which streams and channels form the sounds of the title.

``containers`` reads the structure of files, ``coded`` the headers of coded pictures; ``colour``
says what levels mean. ``choices`` holds what a user decides about a source.
"""
