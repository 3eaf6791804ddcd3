"""A real Apache Kafka without Docker, for tests, CI, `make kafka` and the demo: one node, broker and controller.

`jars` fetches Kafka's jars once through Maven; `broker` writes the node's configuration, starts it, waits until it
answers, and ends it. It is Apache's own code and keeps its data over kill -9; it is not replicated.
"""
