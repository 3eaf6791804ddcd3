"""Names of the event log's topics. Kafka's may be renamed by the setting `kafka_topic`."""

HITS = "hits"
HITS_REJECTED = "hits.rejected"
