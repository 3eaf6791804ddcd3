"""Names of the event log's topics."""

HITS = "hits"
HITS_REJECTED = "hits.rejected"
