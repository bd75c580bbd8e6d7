"""Sinks for message brokers: SQS, Redis, NATS, Kafka and AMQP.

All extend `broker`, which keeps one client per connection and maps errors to receipts. The client
library of each is an extra of this package and is imported on first use.
"""
