"""A member's log on a disk: a write-ahead log in segments, snapshots beside it, and tools to look at both.

- `entries`, `batches`: what is written at a time, to bytes and back; `frames`: how that stands in a segment.
  Sans I/O.
- `replay`: from segments to the log that they hold. Sans I/O. `segments`: recovery, appending, forgetting
- `snapshot_format`: a state as a stream of checked chunks. Sans I/O. `snapshot_files`: on a disk
- `folder`: whose folder it is, and who has it open
- `disklog`: all of it as a `MemberLog`; `logs`: those of a whole group
- `examine`: verify, dump and repair
"""
