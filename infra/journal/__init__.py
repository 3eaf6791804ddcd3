"""The journal: append-only segment files with one writer and one reader (DESIGN, invariant 2).

- The writer creates segments, the reader deletes them. Segment names are never used twice.
- A frame is `length u32 LE | crc32 u32 LE | payload` (`frame.py`). A bad or torn frame ends its segment; what stands
  before it is whole, what stands behind it in that segment is lost and shows as a gap in the numbers.
- A frame's number is the number in its segment's name plus its place in the segment.
- The reader looks for a segment's successor first, then reads the tail once more, and only then leaves the segment.
"""
