"""Sinks for message brokers: SQS, Redis, NATS, Kafka and AMQP.

All stand on `broker`, which keeps one client per connection and maps errors to receipts. Each needs
an extra of its own; its library is imported on first use.
"""
